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

#[tokio::test]
async fn dell() {
    let walked = walk(unpack("nvidia-libredfish-mockups/dell.tar.xz", "tests/mockups/dell", "")).await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn hpe() {
    let walked = walk(unpack("nvidia-libredfish-mockups/hpe.tar.xz", "tests/mockups/hpe", "")).await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn bluefield() {
    let walked =
        walk(unpack("nvidia-libredfish-mockups/nvidia_dpu.tar.xz", "tests/mockups/nvidia_dpu", "")).await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn viking() {
    let walked =
        walk(unpack("nvidia-libredfish-mockups/nvidia_viking.tar.xz", "tests/mockups/nvidia_viking", ""))
            .await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn dmtf_rackmount() {
    let walked =
        walk(unpack("dmtf-public-rackmount1/public-rackmount1.tar.xz", "public-rackmount1", "/redfish/v1"))
            .await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn dmtf_interface_emulator() {
    let documents =
        unpack("dmtf-interface-emulator/static.tar.xz", "api_emulator/redfish/static", "/redfish/v1");
    println!("{:?}", documents.keys().filter(|k| !k.contains("Chassis")).collect::<Vec<_>>());
}

#[tokio::test]
async fn lenovo() {
    let walked = walk(loose(&[
        "bmclib/lenovo/serviceroot.json",
        "bmclib/lenovo/systems.json",
        "bmclib/lenovo/system.lenovo.json",
        "bmclib/lenovo/system.ethernetinterfaces.json",
        "bmclib/lenovo/system.eth.nic1.json",
        "bmclib/lenovo/managers.json",
        "bmclib/lenovo/manager.1.json",
    ]))
    .await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn supermicro() {
    let walked = walk(loose(&[
        "bmclib/supermicro/smc_1.14.0_serviceroot.json",
        "bmclib/supermicro/smc_1.14.0_systems.json",
        "bmclib/supermicro/smc_1.14.0_systems_1.json",
        "bmclib/supermicro/ethernet_interfaces.json",
        "bmclib/supermicro/ethernet_1.json",
        "bmclib/supermicro/ethernet_2.json",
        "bmclib/supermicro/ethernet_3.json",
        "bmclib/supermicro/ethernet_4.json",
    ]))
    .await;
    println!("{:?} {:?}", walked.identity, walked.changes);
}

#[tokio::test]
async fn dell_of_bmclib() {
    let walked = walk(loose(&[
        "bmclib/dell/serviceroot.json",
        "bmclib/dell/systems.json",
        "bmclib/dell/system.embedded.1.json",
        "bmclib/dell/managers.json",
        "bmclib/dell/manager.idrac.embedded.1.json",
    ]))
    .await;
    println!("{:?} {:?}", walked.identity, walked.changes);
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
