//! A table of cases: what each rule finds, and that it is silent about machines that get on.

use super::{
    case::{Case, Entry, State},
    diagnose,
    rules::reason,
    sign::*,
};
use crate::machine::Time;
use provisioner_wire::machine::Phase;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const START: i64 = 1_700_000_000_000;
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 11));
const EVIL: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 66);
const SNP: &str = "snponly.efi";
const SCRIPT: &str = "http://10.88.0.1:8080/boot/52-54-00-88-00-01.ipxe";

fn packet(message: &str, program: Program, answer: Answer) -> Packet {
    Packet {
        message: message.to_owned(),
        port: 67,
        program,
        who: "x64 UEFI PXE".to_owned(),
        architectures: vec![7],
        platform: (program != Program::System).then_some(Platform::UefiX64),
        uuid: None,
        vendor_class: "PXEClient:Arch:00007:UNDI:003000".to_owned(),
        user_class: None,
        client_id: None,
        undi: None,
        parameters: vec![],
        max_size: None,
        xid: 1,
        secs: 0,
        relay: None,
        address: None,
        server: None,
        answer,
    }
}

fn dhcp(packet: Packet) -> Sign {
    Sign::Dhcp(Box::new(packet))
}

fn file(name: &str) -> Boot {
    Boot::File(name.to_owned())
}

fn offer(program: Program, boot: Boot) -> Sign {
    dhcp(packet("discover", program, Answer::Offer { ip: Some(IP), boot }))
}

fn ack(program: Program, boot: Boot) -> Sign {
    dhcp(packet("request", program, Answer::Ack { ip: Some(IP), boot }))
}

fn nothing(reason: &str) -> Sign {
    dhcp(packet("discover", Program::Pxe, Answer::Nothing { reason: reason.to_owned() }))
}

const IP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 1, 0));
const SNP6: &str = "tftp://[fd88::1]/snponly.efi";

/// Over IPv6.
fn v6(message: &str, answer: Answer) -> Sign {
    dhcp(Packet { port: PORT_V6, ..packet(message, Program::Pxe, answer) })
}

fn solicit6() -> Sign {
    v6("solicit", Answer::Offer { ip: Some(IP6), boot: file(SNP6) })
}

fn solicit6_in_vain(reason: &str) -> Sign {
    v6("solicit", Answer::Nothing { reason: reason.to_owned() })
}

fn proxy_offer() -> Sign {
    dhcp(packet("discover", Program::Pxe, Answer::Offer { ip: None, boot: file(SNP) }))
}

fn tftp(end: End, acknowledged: u64, made_for: Option<Platform>) -> Sign {
    Sign::Transfer(Transfer {
        file: SNP.to_owned(),
        made_for,
        bytes: 200_000,
        acknowledged,
        block_size: 1468,
        agreed: true,
        retransmits: 0,
        milliseconds: 300,
        end,
    })
}

fn loaded() -> Sign {
    tftp(End::Complete, 200_000, Some(Platform::UefiX64))
}

fn fetch(path: &str, status: u16, made_for: Option<Platform>) -> Sign {
    Sign::Fetch(Fetch {
        method: "GET".to_owned(),
        path: path.to_owned(),
        made_for,
        status,
        bytes: 1000,
        whole: true,
        agent: "UefiHttpBoot/1.0".to_owned(),
    })
}

fn bmc(outcome: Outcome) -> Sign {
    Sign::Bmc { what: "network-boot".to_owned(), outcome }
}

fn script(boots: Boots) -> Sign {
    Sign::Script { boots }
}

fn agent(what: &str) -> Sign {
    Sign::Agent { what: what.to_owned() }
}

fn rogue(chosen: bool) -> Sign {
    let mac = Some("52:54:00:66:66:66".to_owned());
    Sign::Foreign(Foreign { server: EVIL, mac, file: Some("evil.efi".to_owned()), chosen })
}

fn state(phase: Phase, reason: &str) -> State {
    State {
        name: "node-1".to_owned(),
        phase,
        reason: reason.to_owned(),
        since: Time(START),
        busy: !matches!(phase, Phase::Available | Phase::Ready | Phase::Failed),
        bmc: true,
        secure_boot: None,
    }
}

/// Signs with their seconds since the start, looked at `later` seconds after the last.
fn case(signs: &[(i64, Sign)], later: i64, machine: Option<State>) -> Case {
    let entries: Vec<Entry> =
        signs.iter().map(|(s, sign)| Entry { at: Time(START + s * 1000), sign: sign.clone() }).collect();
    let last = entries.last().map_or(START, |e| e.at.0);
    Case { now: Time(last + later * 1000), entries, machine, discovery: false, foreign: vec![] }
}

fn found(case: &Case) -> Vec<&'static str> {
    diagnose(case).iter().map(|f| f.rule).collect()
}

fn powering() -> Option<State> {
    Some(state(Phase::Powering, "powered on to boot from the network"))
}

/// From iPXE's start to the agent's.
fn ipxe(at: i64) -> Vec<(i64, Sign)> {
    vec![
        (at, offer(Program::Ipxe, file(SCRIPT))),
        (at + 1, ack(Program::Ipxe, file(SCRIPT))),
        (at + 2, script(Boots::Agent)),
        (at + 3, fetch("/boot/files/vmlinuz", 200, None)),
        (at + 9, fetch("/boot/files/initramfs.img", 200, None)),
        (at + 40, agent("claims")),
        (
            at + 41,
            dhcp(packet("discover", Program::System, Answer::Offer { ip: Some(IP), boot: Boot::None })),
        ),
    ]
}

fn healthy_over_ipv6() -> Vec<(&'static str, Vec<(i64, Sign)>)> {
    let over_ipv6 = [
        vec![
            (0, solicit6()),
            (1, v6("request", Answer::Ack { ip: Some(IP6), boot: file(SNP6) })),
            (2, v6("information-request", Answer::Ack { ip: None, boot: file(SNP6) })),
            (3, loaded()),
        ],
        ipxe(8),
    ];
    // Another server's address, our boot file: asked twice for an address before the other one answered.
    let stateless = [
        vec![
            (0, solicit6_in_vain(reason::OTHERS_GIVE)),
            (1, v6("information-request", Answer::Ack { ip: None, boot: file(SNP6) })),
            (3, loaded()),
        ],
        ipxe(8),
    ];
    vec![("over IPv6", over_ipv6.concat()), ("over IPv6, its address from others", stateless.concat())]
}

/// Machines that get on, from power to the agent.
fn healthy() -> Vec<(&'static str, Vec<(i64, Sign)>)> {
    let firmware = |boot: &str| {
        vec![
            (0, bmc(Outcome::Begun)),
            (2, bmc(Outcome::Done)),
            (20, offer(Program::Pxe, file(boot))),
            (22, ack(Program::Pxe, file(boot))),
        ]
    };
    let edk2 = [
        firmware(SNP),
        vec![(23, tftp(End::Aborted("User aborted the transfer".into()), 0, None)), (24, loaded())],
        ipxe(28),
    ];
    let http = [
        vec![
            (0, offer(Program::HttpBoot, file("http://10.88.0.1:8080/boot/files/snponly.efi"))),
            (2, ack(Program::HttpBoot, file("http://10.88.0.1:8080/boot/files/snponly.efi"))),
            (4, fetch("/boot/files/snponly.efi", 200, Some(Platform::UefiX64))),
        ],
        ipxe(9),
    ];
    let proxy = [
        vec![
            (0, proxy_offer()),
            (
                1,
                dhcp(Packet {
                    port: 4011,
                    ..packet("request", Program::Pxe, Answer::Ack { ip: None, boot: file(SNP) })
                }),
            ),
            (2, loaded()),
        ],
        ipxe(6),
    ];
    let slow = [
        vec![
            (0, offer(Program::Pxe, file(SNP))),
            (4, offer(Program::Pxe, file(SNP))),
            (6, ack(Program::Pxe, file(SNP))),
        ],
        vec![(7, tftp(End::Silent, 1000, Some(Platform::UefiX64))), (9, loaded())],
        ipxe(15),
    ];
    let to_disk = [
        firmware(SNP),
        vec![(24, loaded()), (28, ack(Program::Ipxe, file(SCRIPT))), (29, script(Boots::Disk))],
    ];
    vec![
        ("EDK2 over TFTP", edk2.concat()),
        ("UEFI HTTP Boot", http.concat()),
        ("BIOS, its ROM is iPXE", ipxe(0)),
        ("proxy mode, over 4011", proxy.concat()),
        ("lost packets, and then well", slow.concat()),
        ("boots its disk", to_disk.concat()),
    ]
}

#[test]
fn a_machine_that_gets_on_has_no_finding_at_any_moment() {
    for (name, signs) in [healthy(), healthy_over_ipv6()].concat() {
        for length in 1..=signs.len() {
            for later in [0, 1] {
                let seen = case(&signs[..length], later, powering());
                assert_eq!(found(&seen), [""; 0], "{name}, after {length} signs");
            }
        }
        let ready = case(&signs, 100_000, Some(state(Phase::Ready, "its node has phoned home")));
        assert_eq!(found(&ready), [""; 0], "{name}: ready");
    }
}

/// The rule, the signs with their seconds, the seconds after, and words of the cause.
type Row = (&'static str, Vec<(i64, Sign)>, i64, &'static str);

fn pxe() -> Vec<(i64, Sign)> {
    vec![(0, offer(Program::Pxe, file(SNP))), (2, ack(Program::Pxe, file(SNP)))]
}

fn with(mut signs: Vec<(i64, Sign)>, more: Vec<(i64, Sign)>) -> Vec<(i64, Sign)> {
    signs.extend(more);
    signs
}

fn causes_in_answers() -> Vec<Row> {
    let nak = |at| (at, dhcp(packet("request", Program::Pxe, Answer::Nak { reason: "of elsewhere".into() })));
    let on_4011 = Packet {
        port: 4011,
        ..packet("request", Program::Pxe, Answer::Nothing { reason: "no file".into() })
    };
    let missing = Boot::Missing("none of ipxe-arm64.efi is in the iPXE folder".into());
    vec![
        ("rogue-dhcp", vec![(0, offer(Program::Pxe, file(SNP))), (1, rogue(true))], 1, "10.88.0.66"),
        ("rogue-dhcp", vec![(0, offer(Program::Pxe, file(SNP))), (0, rogue(false))], 1, "evil.efi"),
        ("pool-exhausted", vec![(0, nothing(reason::POOL_FULL))], 0, "no free address"),
        ("no-subnet", vec![(0, nothing(reason::NO_SUBNET))], 0, "no subnet"),
        ("rate-limited", vec![(0, nothing(reason::LIMITED))], 0, "unknown machines"),
        ("refused-address", vec![nak(0), nak(2), nak(4)], 0, "of elsewhere"),
        ("no-boot-file", vec![(0, offer(Program::Pxe, missing))], 0, "ipxe-arm64.efi"),
        ("proxy-4011", vec![(0, proxy_offer())], 12, "port 4011"),
        (
            "proxy-4011",
            vec![(0, offer(Program::Pxe, Boot::Ask)), (1, ack(Program::Pxe, Boot::Ask))],
            12,
            "port 4011",
        ),
        ("proxy-4011", vec![(0, proxy_offer()), (1, dhcp(on_4011))], 1, "no file"),
        (
            "no-request",
            vec![(0, offer(Program::Pxe, file(SNP))), (4, offer(Program::Pxe, file(SNP)))],
            12,
            "2 time(s)",
        ),
        ("file-not-fetched", pxe(), 20, SNP),
    ]
}

fn causes_over_ipv6() -> Vec<Row> {
    let full = v6("solicit", Answer::NoAddress { reason: reason::POOL_FULL.to_owned() });
    let relayed = Packet {
        port: PORT_V6,
        relay: Some(IP6),
        ..packet("solicit", Program::Pxe, Answer::Nothing { reason: reason::NO_SUBNET.to_owned() })
    };
    let vain = solicit6_in_vain(reason::OTHERS_GIVE);
    vec![
        ("pool-exhausted", vec![(0, full)], 0, "no free address"),
        ("no-subnet", vec![(0, dhcp(relayed))], 0, "fd88::1:0"),
        ("no-address-given", vec![(0, vain.clone()), (4, vain.clone()), (12, vain)], 1, "gives it none"),
        ("no-request", vec![(0, solicit6()), (4, solicit6())], 12, "fd88::1:0 2 time(s)"),
        (
            "file-not-fetched",
            vec![(0, solicit6()), (1, v6("request", Answer::Ack { ip: Some(IP6), boot: file(SNP6) }))],
            20,
            SNP6,
        ),
    ]
}

fn causes_in_files_and_silence() -> Vec<Row> {
    let loop_sign = dhcp(packet("discover", Program::Ipxe, Answer::Offer { ip: Some(IP), boot: Boot::Loop }));
    let round = |at| vec![(at, ack(Program::Ipxe, file(SNP))), (at + 1, loaded())];
    let system = dhcp(packet("discover", Program::System, Answer::Offer { ip: Some(IP), boot: Boot::None }));
    let broken = Sign::Fetch(Fetch {
        method: "GET".into(),
        path: "/boot/files/snponly.efi".into(),
        made_for: Some(Platform::UefiX64),
        status: 200,
        bytes: 5,
        whole: false,
        agent: String::new(),
    });
    let arm = tftp(End::Complete, 200_000, Some(Platform::UefiArm64));
    vec![
        ("tftp-mtu", with(pxe(), vec![(5, tftp(End::Silent, 0, None))]), 6, "1468"),
        ("tftp-stalled", with(pxe(), vec![(5, tftp(End::Silent, 90_000, None))]), 6, "90000 of 200000"),
        ("http-refused", with(pxe(), vec![(5, fetch("/boot//files/snponly.efi", 301, None))]), 0, "301"),
        ("http-refused", with(pxe(), vec![(5, fetch("/boot/files/x.efi", 404, None))]), 0, "404"),
        ("http-broken", with(pxe(), vec![(5, broken)]), 30, "after 5 bytes"),
        ("wrong-architecture", with(pxe(), vec![(5, arm)]), 1, "arm64 UEFI"),
        ("secure-boot", with(pxe(), vec![(5, loaded())]), 25, "Secure Boot"),
        (
            "secure-boot",
            with(pxe(), vec![(5, loaded()), (35, offer(Program::Pxe, file(SNP)))]),
            1,
            "next boot option",
        ),
        ("chain-loop", vec![(0, loop_sign)], 0, "again and again"),
        ("chain-loop", [round(0), round(10), round(20)].concat(), 1, "3 times"),
        (
            "boot-order",
            vec![(0, offer(Program::Pxe, file(SNP))), (9, script(Boots::Disk)), (60, bmc(Outcome::Done))],
            300,
            "300 s",
        ),
        ("boot-order", vec![(0, bmc(Outcome::Done)), (50, system)], 1, "booted its disk"),
        ("nothing-heard", vec![(0, bmc(Outcome::Done))], 300, "no packet of it"),
        ("bmc", vec![(0, bmc(Outcome::Failed("refused".into())))], 0, "refused"),
    ]
}

#[test]
fn each_cause_is_found_and_named_once() {
    for (rule, signs, later, says) in
        [causes_in_answers(), causes_over_ipv6(), causes_in_files_and_silence()].concat()
    {
        let findings = diagnose(&case(&signs, later, powering()));
        assert_eq!(findings.first().map(|f| f.rule), Some(rule), "{signs:?}\n{findings:?}");
        let same = findings.iter().filter(|f| f.rule == rule).count();
        assert_eq!((findings.len(), same), (1, 1), "{rule}: {findings:?}");
        assert!(findings[0].cause.contains(says), "{rule}: {}", findings[0].cause);
        assert!(!findings[0].todo.is_empty() && findings[0].at.is_some());
        // A moment after it has got through, nothing of it is left.
        let mut well = signs;
        let last = well.last().unwrap().0;
        well.push((last + 1, ack(Program::Ipxe, file(SCRIPT))));
        well.push((last + 2, script(Boots::Agent)));
        assert_eq!(
            found(&case(&well, 1, Some(state(Phase::Booting, "")))),
            [""; 0],
            "{rule} after it was well"
        );
    }
}

#[test]
fn causes_that_depend_on_the_machine() {
    let seen = vec![(0, offer(Program::Pxe, Boot::None))];
    assert_eq!(found(&case(&seen, 0, None)), ["not-declared"]);
    assert_eq!(found(&Case { discovery: true, ..case(&seen, 0, None) }), [""; 0]);
    assert_eq!(found(&case(&[], 0, None)), ["nothing-heard"]);

    let pushed = State { bmc: false, ..state(Phase::Powering, "power it on") };
    assert_eq!(found(&case(&[], 10, Some(pushed.clone()))), ["waits"]);
    assert_eq!(found(&case(&[], 3600, Some(pushed))), ["nothing-heard"]);
    assert_eq!(found(&case(&[], 3600, Some(state(Phase::Available, "declared")))), [""; 0]);

    let refused = "the config could not be made: user-data.yaml.j2:4: node_name is not set";
    let sign = Sign::Refused { what: refused.to_owned() };
    let failed = case(&[(0, sign)], 60, Some(state(Phase::Failed, refused)));
    let findings = diagnose(&failed);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].rule == "workflow-refused" && findings[0].cause.contains("user-data.yaml.j2:4"));
    assert_eq!(found(&case(&[], 60, Some(state(Phase::Failed, "no disk")))), ["waits"]);

    let seen = vec![(0, offer(Program::Pxe, file(SNP))), (2, ack(Program::Pxe, file(SNP))), (5, loaded())];
    for (on, says) in [(Some(true), "Secure Boot is on"), (Some(false), "was off"), (None, "just so")] {
        let machine = State { secure_boot: on, ..state(Phase::Powering, "") };
        assert!(diagnose(&case(&seen, 25, Some(machine)))[0].cause.contains(says));
    }
    // Another boot program asked for more files: what was loaded runs (shim, GRUB).
    let mut shim = seen;
    shim.push((6, tftp(End::Refused("no such file".into()), 0, None)));
    assert_eq!(found(&case(&shim, 3, powering())), [""; 0]);
}

#[test]
fn an_agent_that_does_not_claim() {
    let script = (0, script(Boots::Agent));
    let kernel = (1, fetch("/boot/files/vmlinuz", 200, None));
    let initramfs = (5, fetch("/boot/files/initramfs.img", 200, None));
    let steps = [script, kernel, initramfs];
    for (length, says) in [(1, "did not fetch"), (2, "not its initramfs"), (3, "has not claimed")] {
        let booting = Some(state(Phase::Booting, "a boot script was served"));
        let findings = diagnose(&case(&steps[..length], 200, booting.clone()));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].rule == "agent-silent" && findings[0].cause.contains(says), "{findings:?}");
        assert_eq!(found(&case(&steps[..length], 60, booting)), [""; 0]);
    }
    let mut claimed = steps.to_vec();
    claimed.push((40, agent("claims")));
    assert_eq!(found(&case(&claimed, 500, Some(state(Phase::Installing, "may write")))), [""; 0]);
}

#[test]
fn transfers_that_were_never_acknowledged_are_told_apart() {
    let of = |agreed, block_size| {
        let Sign::Transfer(transfer) = tftp(End::Silent, 0, None) else { unreachable!() };
        let sign = Sign::Transfer(Transfer { agreed, block_size, ..transfer });
        found(&case(&[(0, ack(Program::Pxe, file(SNP))), (1, sign)], 30, powering()))
    };
    assert_eq!(of(true, 1468), ["tftp-mtu"]);
    assert_eq!(of(false, 1468), ["tftp-unheard"]);
    assert_eq!(of(true, 512), ["tftp-unheard"]);
}

#[test]
fn signs_read_what_they_wrote() {
    for (_, signs) in [healthy(), healthy_over_ipv6()].concat() {
        for (_, sign) in signs {
            let text = serde_json::to_string(&sign).unwrap();
            assert_eq!(serde_json::from_str::<Sign>(&text).unwrap(), sign, "{text}");
            assert!(!sign.to_string().is_empty() && !sign.kind().is_empty());
        }
    }
}
