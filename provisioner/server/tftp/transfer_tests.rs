//! The rules of RFC 1350, 2347, 2348, 2349 and 7440, one named test each, on the transfer as a function.

use super::{
    request::{Asked, ReadRequest},
    transfer::{Burst, Next, Transfer, WINDOW_MAX},
};
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;
use tftpd::ErrorCode;

const ZERO: Duration = Duration::ZERO;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn request(mode: &str, options: &[(&str, &str)]) -> ReadRequest {
    let words = ["f", mode].into_iter().chain(options.iter().flat_map(|(k, v)| [*k, *v]));
    let packet: Vec<u8> = [0, 1].into_iter().chain(words.flat_map(|w| w.bytes().chain([0]))).collect();
    match Asked::read(&packet) {
        Asked::Read(request) => request,
        other => panic!("{other:?}"),
    }
}

fn begin(data: &[u8], options: &[(&str, &str)]) -> (Box<Transfer>, Burst) {
    let data = Bytes::copy_from_slice(data);
    Transfer::begin(data, &request("octet", options), 1468, ZERO)
}

fn ack(block: u16) -> Vec<u8> {
    [[0, 4], block.to_be_bytes()].concat()
}

/// The numbers of the blocks of a burst.
fn blocks(burst: &Burst) -> Vec<u16> {
    burst.packets().map(|p| u16::from_be_bytes([p[2], p[3]])).collect()
}

fn sent(next: Next) -> Vec<u16> {
    match next {
        Next::Send(burst) => blocks(&burst),
        Next::Nothing => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// A client of RFC 7440 with window `window`, one trip of which takes 10 ms, and which loses every `lose`-th datagram.
/// What it got, and the datagrams that were sent to it.
fn fetch(transfer: &mut Transfer, first: Burst, block: usize, window: u16, lose: usize) -> (Vec<u8>, usize) {
    let (mut got, mut last, mut in_window, mut count, mut now) = (Vec::new(), 0u16, 0, 0usize, ZERO);
    let mut burst = first;
    loop {
        assert!(count < 300_000, "no end: at block {last}, base {:?}", transfer.due());
        now += ms(10);
        let mut answers = Vec::new();
        for packet in burst.packets() {
            count += 1;
            if lose > 0 && count % lose == 0 {
                continue;
            }
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            if packet[1] == 6 {
                answers.push(0);
            } else if number == last.wrapping_add(1) {
                got.extend_from_slice(&packet[4..]);
                (last, in_window) = (number, in_window + 1);
                if packet.len() - 4 < block {
                    assert_eq!(transfer.hear(&ack(number), now), Next::Complete);
                    return (got, count);
                }
                if in_window == window {
                    (in_window, answers) = (0, [answers, vec![number]].concat());
                }
            } else if answers.last() != Some(&last) {
                (in_window, answers) = (0, [answers, vec![last]].concat());
            }
        }
        let mut next = Next::Nothing;
        for answer in answers {
            match transfer.hear(&ack(answer), now) {
                Next::Nothing => {}
                other => next = other,
            }
        }
        if next == Next::Nothing {
            now = now.max(transfer.due());
            next = transfer.silence(now);
        }
        match next {
            Next::Send(more) => burst = more,
            other => panic!("{other:?} after {count} datagrams"),
        }
    }
}

fn fetched(data: &[u8], options: &[(&str, &str)], block: usize, window: u16, lose: usize) -> Vec<u8> {
    let (mut transfer, first) = begin(data, options);
    fetch(&mut transfer, first, block, window, lose).0
}

#[test]
fn rfc1350_lock_step_one_block_for_each_acknowledgement() {
    let (mut transfer, first) = begin(&[7; 1200], &[]);
    assert_eq!(blocks(&first), [1]);
    assert_eq!(sent(transfer.hear(&ack(1), ZERO)), [2]);
    assert_eq!(sent(transfer.hear(&ack(2), ZERO)), [3]);
    assert_eq!(transfer.hear(&ack(3), ZERO), Next::Complete);
}

#[test]
fn rfc1350_an_exact_multiple_ends_with_an_empty_block() {
    let (mut transfer, first) = begin(&[7; 512], &[]);
    assert_eq!(first.bytes.len(), 516);
    let Next::Send(last) = transfer.hear(&ack(1), ZERO) else { panic!() };
    assert_eq!(last.bytes, [0, 3, 0, 2]);
    assert_eq!(transfer.hear(&ack(2), ZERO), Next::Complete);
    assert_eq!(fetched(&[], &[], 512, 1, 0), [0u8; 0]);
}

#[test]
fn rfc1350_netascii_across_the_edges_of_blocks() {
    let text = "a line\nand\ranother\r\n".repeat(300);
    let (mut transfer, first) =
        Transfer::begin(text.clone().into(), &request("NetASCII", &[("blksize", "9")]), 1468, ZERO);
    let (got, _) = fetch(&mut transfer, first, 9, 1, 7);
    assert_eq!(String::from_utf8(got).unwrap(), "a line\r\nand\r\0another\r\0\r\n".repeat(300));
}

#[test]
fn rfc1123_the_sorcerers_apprentice_stays_asleep() {
    let (mut transfer, _) = begin(&[1; 5000], &[]);
    assert_eq!(sent(transfer.hear(&ack(1), ms(1))), [2]);
    for later in [1, 5, 400] {
        assert_eq!(transfer.hear(&ack(1), ms(later)), Next::Nothing, "§4.2.3.1");
    }
    assert_eq!(sent(transfer.silence(ms(500))), [2], "silence alone sends again");
}

#[test]
fn rfc1350_block_numbers_roll_over_to_zero() {
    let data: Vec<u8> = (0..9 * 70_000u32).map(|n| (n % 251) as u8).collect();
    assert!(fetched(&data, &[("blksize", "8")], 8, 1, 0) == data);
    assert!(fetched(&data, &[("blksize", "8"), ("windowsize", "16")], 8, 16, 97) == data);
}

#[test]
fn rfc1350_more_than_32_mib_in_blocks_of_512() {
    let data: Vec<u8> = (0..33u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(fetched(&data, &[], 512, 1, 0) == data);
}

#[test]
fn rfc2347_only_what_was_asked_and_understood_is_acknowledged() {
    let (_, first) = begin(b"hello", &[("BLKSIZE", "700"), ("x", "1"), ("timeout", "0"), ("tsize", "none")]);
    assert_eq!(first.bytes, b"\0\x06blksize\x00700\0");
    let (_, plain) = begin(b"hello", &[("x", "1"), ("multicast", "")]);
    assert_eq!(plain.bytes, b"\0\x03\0\x01hello", "nothing was understood: RFC 1350");
}

#[test]
fn rfc2347_acknowledgement_0_starts_the_data() {
    let (mut transfer, first) = begin(b"hello", &[("blksize", "1000")]);
    assert_eq!(first.bytes, b"\0\x06blksize\x001000\0");
    assert_eq!(transfer.hear(&ack(1), ZERO), Next::Nothing);
    let Next::Send(data) = transfer.hear(&ack(0), ZERO) else { panic!() };
    assert_eq!(data.bytes, b"\0\x03\0\x01hello");
}

#[test]
fn rfc2347_firmware_that_only_wanted_the_size_ends_quietly() {
    let (mut transfer, _) = begin(b"hello", &[("tsize", "0"), ("blksize", "1468")]);
    let refused = Burst::error(ErrorCode::RefusedOption, "aborted").bytes;
    assert_eq!(transfer.hear(&refused, ZERO), Next::Aborted("aborted".into()));
}

#[test]
fn rfc2347_an_option_asked_twice_is_done_as_it_is_acknowledged() {
    let (mut transfer, first) = begin(&[1; 5000], &[("blksize", "1000"), ("blksize", "8"), ("blksize", "7")]);
    assert_eq!(first.bytes, b"\0\x06blksize\x001000\0");
    let Next::Send(data) = transfer.hear(&ack(0), ZERO) else { panic!() };
    assert_eq!(data.bytes.len(), 1004);
}

#[test]
fn rfc2348_the_block_size_is_clamped_to_what_the_way_carries() {
    for (asked, acknowledged) in [("8", "8"), ("1468", "1468"), ("1469", "1468"), ("65464", "1468")] {
        let (_, first) = begin(b"hello", &[("blksize", asked)]);
        assert_eq!(first.bytes, format!("\0\x06blksize\0{acknowledged}\0").as_bytes());
    }
    for out_of_range in ["7", "65465", "0"] {
        let (_, first) = begin(b"hello", &[("blksize", out_of_range)]);
        assert_eq!(first.bytes[1], 3, "{out_of_range} is as if not asked");
    }
}

#[test]
fn rfc2349_the_size_is_exact_in_both_modes() {
    let (_, octet) = begin(b"a\nb\n", &[("tsize", "0")]);
    assert_eq!(octet.bytes, b"\0\x06tsize\x004\0");
    let asked = request("netascii", &[("tsize", "0")]);
    let (_, netascii) = Transfer::begin(Bytes::from_static(b"a\nb\n"), &asked, 1468, ZERO);
    assert_eq!(netascii.bytes, b"\0\x06tsize\x006\0");
}

#[test]
fn rfc2349_the_timeout_is_echoed_as_it_is_or_left_out() {
    for good in ["1", "255"] {
        let (_, first) = begin(b"hello", &[("timeout", good)]);
        assert_eq!(first.bytes, format!("\0\x06timeout\0{good}\0").as_bytes());
    }
    let (_, left_out) = begin(b"hello", &[("timeout", "256"), ("tsize", "0")]);
    assert_eq!(left_out.bytes, b"\0\x06tsize\x005\0");
    let (transfer, _) = begin(b"hello", &[("timeout", "3")]);
    assert_eq!(transfer.due(), ms(3000), "kept until a trip was measured");
}

#[test]
fn rfc7440_a_window_goes_out_for_each_acknowledgement() {
    let (mut transfer, _) = begin(&[1; 20 * 512], &[("windowsize", "4")]);
    assert_eq!(sent(transfer.hear(&ack(0), ZERO)), [1, 2, 3, 4]);
    assert_eq!(sent(transfer.hear(&ack(4), ZERO)), [5, 6, 7, 8]);
    let (_, huge) = begin(&[1; 512], &[("windowsize", "65535")]);
    assert_eq!(huge.bytes, format!("\0\x06windowsize\0{WINDOW_MAX}\0").as_bytes());
    let (_, none) = begin(&[1; 512], &[("windowsize", "0")]);
    assert_eq!(none.bytes[1], 3);
}

#[test]
fn rfc7440_an_acknowledgement_in_mid_window_restarts_after_it() {
    let (mut transfer, _) = begin(&[1; 20 * 512], &[("windowsize", "4")]);
    transfer.hear(&ack(0), ZERO);
    assert_eq!(sent(transfer.hear(&ack(2), ms(1))), [3, 4, 5, 6]);
}

#[test]
fn rfc7440_a_lost_first_block_is_sent_again_once() {
    let (mut transfer, _) = begin(&[1; 20 * 512], &[("windowsize", "4")]);
    transfer.hear(&ack(0), ms(10));
    assert_eq!(sent(transfer.hear(&ack(4), ms(20))), [5, 6, 7, 8]);
    assert_eq!(transfer.hear(&ack(4), ms(21)), Next::Nothing, "too early to be about 5 to 8");
    assert_eq!(sent(transfer.hear(&ack(4), ms(30))), [5, 6, 7, 8], "5 was lost");
    // A client that answers each packet, on a slow way: its answers come for seconds, and are not answered in their turn.
    for late in [31, 40, 100, 1000, 3000] {
        assert_eq!(transfer.hear(&ack(4), ms(late)), Next::Nothing, "6, 7 and 8 bring the same news");
    }
    assert_eq!(sent(transfer.silence(transfer.due())), [5, 6, 7, 8], "what is lost again waits for its time");
    assert_eq!(sent(transfer.hear(&ack(5), ms(3500))), [6, 7, 8, 9]);
    assert_eq!(sent(transfer.hear(&ack(5), ms(3600))), [6, 7, 8, 9], "a new gap is new");
}

#[test]
fn rfc7440_every_pattern_of_loss_ends_with_the_file() {
    let data: Vec<u8> = (0..200_000u32).map(|n| (n % 249) as u8).collect();
    for lose in [0, 3, 5, 7, 20, 100] {
        let options = [("windowsize", "4"), ("blksize", "1468")];
        assert!(fetched(&data, &options, 1468, 4, lose) == data, "{lose}");
        assert!(fetched(&data, &options[1..], 1468, 1, lose) == data, "{lose}");
    }
}

#[test]
fn rfc7440_loss_costs_little_more_than_what_was_lost() {
    let data = vec![3; 1 << 20];
    let (mut transfer, first) = begin(&data, &[("windowsize", "16"), ("blksize", "1468")]);
    let (_, count) = fetch(&mut transfer, first, 1468, 16, 100);
    let blocks = (1 << 20) / 1468 + 1;
    assert!(count < blocks * 5 / 4, "{count} datagrams for {blocks} blocks");
}

#[test]
fn a_client_that_was_never_heard_gets_three_packets() {
    for options in [&[][..], &[("windowsize", "64"), ("blksize", "1468")]] {
        let (mut transfer, first) = begin(&[1; 100_000], options);
        let mut bytes = first.bytes.len();
        let mut packets = first.packets().count();
        while let Next::Send(more) = transfer.silence(transfer.due()) {
            packets += more.packets().count();
            bytes += more.bytes.len();
        }
        assert_eq!(packets, 3);
        assert!(bytes <= 3 * 516, "{bytes}");
    }
}

#[test]
fn a_client_that_was_heard_is_given_twenty_seconds() {
    let (mut transfer, _) = begin(&[1; 5000], &[]);
    transfer.hear(&ack(1), ms(10));
    let mut tries = 0;
    let now = loop {
        let now = transfer.due();
        match transfer.silence(now) {
            Next::Send(_) => tries += 1,
            Next::Silent => break now,
            other => panic!("{other:?}"),
        }
    };
    assert!((ms(20_000)..ms(25_000)).contains(&now), "{now:?}");
    assert!((8..20).contains(&tries), "{tries}");
}

#[test]
fn the_wait_follows_the_measured_trips_and_not_a_fixed_second() {
    let (mut transfer, _) = begin(&[1; 50_000], &[]);
    let mut now = ZERO;
    for block in 1..=20 {
        now += ms(40);
        transfer.hear(&ack(block), now);
    }
    let wait = transfer.due() - now;
    assert!((ms(40)..ms(60)).contains(&wait), "{wait:?}");
    now = transfer.due();
    transfer.silence(now);
    assert!(transfer.due() - now >= wait * 2 - ms(1), "and doubles");
    now += ms(40);
    transfer.hear(&ack(21), now);
    assert!(transfer.due() - now < ms(60), "Karn: an answer to what was sent twice measures nothing");
}

#[test]
fn an_hour_is_the_end_of_every_transfer() {
    let (mut transfer, _) = begin(&[1; 5000], &[]);
    assert_eq!(transfer.hear(&ack(1), Duration::from_secs(3600)), Next::Silent);
}

proptest! {
    #[test]
    fn no_packet_makes_it_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..20), window in 0u16..9) {
        let (mut transfer, _) = begin(b"some data", &[("windowsize", &window.to_string()), ("blksize", "8")]);
        for (n, packet) in packets.into_iter().enumerate() {
            let now = ms(n as u64 * 7);
            let _ = transfer.hear(&packet, now);
            let _ = transfer.hear(&ack(n as u16), now);
            let _ = transfer.silence(now);
        }
    }
}
