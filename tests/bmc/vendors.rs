//! Every recorded tree of a vendor is walked by the real client: who it is, its MACs, its power, the override and the
//! reset that would be sent.

use super::{
    FAST, LONG, close, target,
    tree::{Documents, Tree, loose, unpack},
};
use provisioner::bmc::{Bmc, BmcIdentity, Cause, NetBoot, OverrideSet, Power, PowerChange, redfish::Redfish};
use serde_json::{Value, json};

struct Walked {
    identity: BmcIdentity,
    /// Where the override and the reset went, and what was sent.
    changes: Vec<(String, String, Value)>,
}

/// Reads, sets the override, turns the machine off and on again; asserts what is the same for all.
async fn walk(documents: Documents) -> Walked {
    let (tree, url) = Tree::serve(documents).await;
    let bmc = Redfish::open(target(&url, "root", "calvin", None), FAST, LONG).await.unwrap();
    let identity = bmc.identity(LONG).await.unwrap();
    assert_eq!(bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap(), OverrideSet::Once);
    let change = if identity.power == Power::On { PowerChange::ForceOff } else { PowerChange::On };
    bmc.set_power(change, LONG).await.unwrap();
    bmc.set_power(PowerChange::Cycle, LONG).await.unwrap();
    assert_eq!(bmc.power(LONG).await.unwrap(), Power::On);
    close(bmc).await;
    assert_eq!(tree.open_sessions(), 0);
    Walked { identity, changes: tree.changes() }
}

fn macs(identity: &BmcIdentity) -> Vec<String> {
    identity.macs.iter().map(ToString::to_string).collect()
}

fn once(walked: &Walked, place: &str, system: &str) {
    let patch = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}});
    let reset = format!("{system}/Actions/ComputerSystem.Reset");
    let expected = [
        ("PATCH", place, patch),
        ("POST", &reset, json!({"ResetType": "ForceOff"})),
        ("POST", &reset, json!({"ResetType": "On"})),
    ];
    let expected = expected.map(|(method, path, body)| (method.to_owned(), path.to_owned(), body));
    assert_eq!(walked.changes, expected);
}

/// What is expected of one tree.
struct Expected<'a> {
    manufacturer: &'a str,
    model: &'a str,
    serial: &'a str,
    uuid: Option<&'a str>,
    macs: &'a [&'a str],
    firmware: Option<&'a str>,
    /// Where the override is to be changed; the system's own path when `None`.
    staged: Option<&'a str>,
    system: &'a str,
}

async fn is(documents: Documents, expected: Expected<'_>) {
    let walked = walk(documents).await;
    let identity = &walked.identity;
    assert_eq!(identity.manufacturer.as_deref(), Some(expected.manufacturer));
    assert_eq!(identity.model.as_deref(), Some(expected.model));
    assert_eq!(identity.serial.as_deref(), Some(expected.serial));
    assert_eq!(identity.uuid.map(|uuid| uuid.to_string()).as_deref(), expected.uuid);
    assert_eq!(macs(identity), expected.macs);
    assert_eq!(identity.firmware_version.as_deref(), expected.firmware);
    assert_eq!(identity.power, Power::On);
    let system = format!("/redfish/v1/Systems/{}", expected.system);
    once(&walked, &expected.staged.map_or(system.clone(), |below| format!("{system}/{below}")), &system);
}

#[tokio::test]
async fn dell() {
    let expected = Expected {
        manufacturer: "Dell Inc.",
        model: "PowerEdge R750",
        // The service tag, as SMBIOS has it; SerialNumber is the board's.
        serial: "F54P1G3",
        uuid: Some("4c4c4544-0035-3410-8050-c6c04f314733"),
        macs: &[
            "70:b5:e8:f0:52:dc",
            "70:b5:e8:f0:52:dd",
            "b8:3f:d2:90:97:c4",
            "e4:3d:1a:13:27:f0",
            "e4:3d:1a:13:27:f1",
        ],
        firmware: Some("6.00.30.00"),
        staged: None,
        system: "System.Embedded.1",
    };
    is(unpack("nvidia-libredfish-mockups/dell.tar.xz", "tests/mockups/dell", ""), expected).await;
}

#[tokio::test]
async fn hpe() {
    let expected = Expected {
        manufacturer: "HPE",
        model: "ProLiant DL385 Gen10 Plus v2",
        serial: "MXQ302099S",
        uuid: Some("34383350-3131-584d-5133-303230393953"),
        macs: &[
            "50:7c:6f:11:f2:a6",
            "50:7c:6f:11:f2:a7",
            "50:7c:6f:11:f2:a8",
            "50:7c:6f:11:f2:a9",
            "88:e9:a4:80:9d:a2",
            "88:e9:a4:87:42:c8",
            "b8:3f:d2:d7:f7:4a",
        ],
        firmware: Some("iLO 5 v2.72"),
        staged: None,
        system: "1",
    };
    is(unpack("nvidia-libredfish-mockups/hpe.tar.xz", "tests/mockups/hpe", ""), expected).await;
}

fn bluefield_tree() -> Documents {
    unpack("nvidia-libredfish-mockups/nvidia_dpu.tar.xz", "tests/mockups/nvidia_dpu", "")
}

#[tokio::test]
async fn bluefield() {
    let expected = Expected {
        manufacturer: "https://www.mellanox.com",
        model: "BlueField-3 SmartNIC Main Card",
        serial: "MT2423600ANG",
        uuid: None,
        macs: &["5c:25:73:08:f3:62", "5c:25:73:08:f3:63", "5c:25:73:08:f3:76"],
        firmware: Some("BF-24.10-10"),
        staged: Some("Settings"),
        system: "Bluefield",
    };
    is(bluefield_tree(), expected).await;
}

/// A card whose boot object has faults of its own (an empty UUID, odd override values) still tells who it is.
#[tokio::test]
async fn bluefield_with_boot_bugs() {
    let mut documents = bluefield_tree();
    documents.extend(loose(&["nvidia-libredfish-model/src/model/testdata/system_bluefield_boot_bugs.json"]));
    let (tree, url) = Tree::serve(documents).await;
    let bmc = Redfish::open(target(&url, "root", "calvin", None), FAST, LONG).await.unwrap();
    bmc.identity(LONG).await.unwrap();
    assert_eq!(bmc.network_boot_once(NetBoot::Pxe, LONG).await.unwrap(), OverrideSet::Once);
    close(bmc).await;
    assert_eq!(tree.open_sessions(), 0);
}

#[tokio::test]
async fn viking() {
    let expected = Expected {
        manufacturer: "NVIDIA",
        model: "DGXH100",
        serial: "1662923610124",
        uuid: Some("b11dd4f2-bfde-1000-02bc-5cff35fbe6e9"),
        macs: &[
            "5c:ff:35:fe:04:b1",
            "6c:fe:54:41:15:78",
            "6c:fe:54:41:15:79",
            "94:6d:ae:aa:2a:19",
            "a0:88:c2:82:6e:52",
        ],
        firmware: Some("23.11.20"),
        // AMI: changes of the boot go to the future state.
        staged: Some("SD"),
        system: "DGX",
    };
    is(unpack("nvidia-libredfish-mockups/nvidia_viking.tar.xz", "tests/mockups/nvidia_viking", ""), expected)
        .await;
}

#[tokio::test]
async fn dmtf_rackmount() {
    let expected = Expected {
        manufacturer: "Contoso",
        model: "3500",
        serial: "437XR1138R2",
        uuid: Some("38947555-7742-3448-3784-823347823834"),
        macs: &["12:44:6a:3b:04:11", "12:44:6a:3b:88:90", "aa:bb:cc:dd:ee:fe"],
        firmware: Some("1.45.455b66-rev4"),
        staged: None,
        system: "437XR1138R2",
    };
    let archive = "dmtf-public-rackmount1/public-rackmount1.tar.xz";
    is(unpack(archive, "public-rackmount1", "/redfish/v1"), expected).await;
}

/// The emulator makes its root when it runs; the recorded tree has none, so the test gives it one without a vendor.
#[tokio::test]
async fn dmtf_interface_emulator() {
    let mut documents =
        unpack("dmtf-interface-emulator/static.tar.xz", "api_emulator/redfish/static", "/redfish/v1");
    let root = json!({
        "@odata.id": "/redfish/v1",
        "@odata.type": "#ServiceRoot.v1_0_0.ServiceRoot",
        "Systems": { "@odata.id": "/redfish/v1/Systems" },
        "SessionService": { "@odata.id": "/redfish/v1/SessionService/" },
    });
    assert!(documents.insert("/redfish/v1".to_owned(), root).is_none());
    let walked = walk(documents).await;
    assert_eq!(walked.identity.model.as_deref(), Some("3500RX"));
    assert_eq!(walked.identity.firmware_version.as_deref(), Some("1.00"));
    assert_eq!(macs(&walked.identity), ["12:44:6a:3b:88:90"]);
    let system = "/redfish/v1/Systems/437XR1138R2";
    once(&walked, system, system);
}

#[tokio::test]
async fn lenovo() {
    let documents = loose(&[
        "bmclib/lenovo/serviceroot.json",
        "bmclib/lenovo/systems.json",
        "bmclib/lenovo/system.lenovo.json",
        "bmclib/lenovo/system.ethernetinterfaces.json",
        "bmclib/lenovo/system.eth.nic1.json",
        "bmclib/lenovo/managers.json",
        "bmclib/lenovo/manager.1.json",
    ]);
    let expected = Expected {
        manufacturer: "Lenovo",
        model: "ThinkSystem SR650",
        serial: "J100ABCD",
        uuid: Some("92384634-2938-2342-8820-489239905423"),
        macs: &["7c:d3:0a:44:55:66"],
        firmware: Some("TEE142M-2.41"),
        staged: None,
        system: "1",
    };
    is(documents, expected).await;
}

#[tokio::test]
async fn supermicro() {
    let documents = loose(&[
        "bmclib/supermicro/smc_1.14.0_serviceroot.json",
        "bmclib/supermicro/smc_1.14.0_systems.json",
        "bmclib/supermicro/smc_1.14.0_systems_1.json",
        "bmclib/supermicro/ethernet_interfaces.json",
        "bmclib/supermicro/ethernet_1.json",
        "bmclib/supermicro/ethernet_2.json",
        "bmclib/supermicro/ethernet_3.json",
        "bmclib/supermicro/ethernet_4.json",
    ]);
    let expected = Expected {
        manufacturer: "Supermicro",
        model: "SYS-510T-MR-EI018",
        serial: "S482931X2814218",
        uuid: Some("b11cc600-6d10-11ec-8000-3cecefc846f8"),
        macs: &["3c:ec:ef:10:20:01", "3c:ec:ef:10:20:02", "3c:ec:ef:20:30:01", "3c:ec:ef:20:30:02"],
        // No manager was recorded.
        firmware: None,
        staged: None,
        system: "1",
    };
    is(documents, expected).await;
}

#[tokio::test]
async fn dell_of_bmclib() {
    let documents = loose(&[
        "bmclib/dell/serviceroot.json",
        "bmclib/dell/systems.json",
        "bmclib/dell/system.embedded.1.json",
        "bmclib/dell/managers.json",
        "bmclib/dell/manager.idrac.embedded.1.json",
    ]);
    let expected = Expected {
        manufacturer: "Dell Inc.",
        model: "PowerEdge R6515",
        serial: "FOOXD53",
        uuid: Some("4c4c4544-004c-4410-8058-c6c04f443533"),
        // No NIC was recorded.
        macs: &[],
        firmware: Some("1.20.50.52"),
        staged: None,
        system: "System.Embedded.1",
    };
    is(documents, expected).await;
}

#[tokio::test]
async fn an_account_that_may_nothing() {
    let mut documents = loose(&["nvidia-libredfish-model/tests/mockups/forbidden/redfish/v1/index.json"]);
    let refusal = include_str!(
        "../fixtures/redfish/nvidia-libredfish-model/tests/mockups/forbidden/redfish/v1/Systems/custom.json"
    );
    documents.insert("/redfish/v1/Systems".to_owned(), serde_json::from_str(refusal).unwrap());
    let (tree, url) = Tree::serve(documents).await;
    let error = Redfish::open(target(&url, "root", "calvin", None), FAST, LONG).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Refused { status: 403, .. }), "{error}");
    assert_eq!(tree.open_sessions(), 0);
}
