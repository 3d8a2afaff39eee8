//! The documents, as redfish-codegen models. What its models leave out (allowable values of an action) is added.

use super::{ResetTypes, SimulatedSystem, SimulatorConfig, state::SystemState};
use redfish_codegen::models::{
    computer_system::v1_20_1::{Actions, ComputerSystem, Links, Reset},
    computer_system_collection::ComputerSystemCollection,
    ethernet_interface::v1_10_0::{EthernetInterface, MACAddress},
    odata_v4::{Count, Etag, Id, IdRef, NextLink},
    resource::{self, PowerState, UUID},
    service_root::v1_16_0::{self as service_root, ServiceRoot},
    session::v1_6_0::Session,
    session_service::v1_1_8::SessionService,
};
use serde::Serialize;
use serde_json::{Value, json};

pub(super) const ROOT: &str = "/redfish/v1";
pub(super) const SYSTEMS: &str = "/redfish/v1/Systems";
pub(super) const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
pub(super) const MANAGER: &str = "/redfish/v1/Managers/BMC";

fn link(path: impl Into<String>) -> Option<IdRef> {
    Some(IdRef { odata_id: Some(Id(path.into())) })
}

fn value(model: &impl Serialize) -> Value {
    serde_json::to_value(model).unwrap_or_default()
}

pub(super) fn root(config: &SimulatorConfig) -> Value {
    let mut root = value(&ServiceRoot {
        odata_id: Id(ROOT.to_owned()),
        id: resource::Id("RootService".to_owned()),
        name: resource::Name("Simulated BMC".to_owned()),
        redfish_version: Some("1.17.0".to_owned()),
        vendor: Some(config.vendor.clone()),
        systems: link(SYSTEMS),
        managers: link("/redfish/v1/Managers"),
        session_service: config.session_service.then(|| link("/redfish/v1/SessionService")).flatten(),
        links: service_root::Links {
            sessions: IdRef { odata_id: Some(Id(SESSIONS.to_owned())) },
            ..Default::default()
        },
        ..Default::default()
    });
    if let (false, Some(root)) = (config.session_service, root.as_object_mut()) {
        root.remove("Links");
    }
    root
}

pub(super) fn session_service(config: &SimulatorConfig) -> Value {
    value(&SessionService {
        odata_id: Id("/redfish/v1/SessionService".to_owned()),
        id: resource::Id("SessionService".to_owned()),
        name: resource::Name("Sessions".to_owned()),
        service_enabled: Some(true),
        session_timeout: i64::try_from(config.session_expiry.as_secs()).ok(),
        sessions: link(SESSIONS),
        ..Default::default()
    })
}

pub(super) fn session(number: u64, user: &str) -> Value {
    value(&Session {
        odata_id: Id(format!("{SESSIONS}/{number}")),
        id: resource::Id(number.to_string()),
        name: resource::Name("User Session".to_owned()),
        user_name: Some(user.to_owned()),
        ..Default::default()
    })
}

/// Any collection: the models are alike but for their type.
pub(super) fn collection(path: &str, kind: &str, members: &[String]) -> Value {
    json!({
        "@odata.id": path,
        "@odata.type": format!("#{kind}Collection.{kind}Collection"),
        "Name": format!("{kind} Collection"),
        "Members": members.iter().map(|member| json!({ "@odata.id": member })).collect::<Vec<_>>(),
        "Members@odata.count": members.len(),
    })
}

/// One page of the systems, from the `skip`-th on.
pub(super) fn systems(config: &SimulatorConfig, skip: usize) -> Value {
    let all = config.systems.len();
    let page = config.systems.iter().skip(skip).take(config.page_size);
    let next = skip.saturating_add(config.page_size);
    value(&ComputerSystemCollection {
        odata_id: Id(SYSTEMS.to_owned()),
        name: resource::Name("Systems".to_owned()),
        members: page.filter_map(|system| link(format!("{SYSTEMS}/{}", system.id))).collect(),
        members_odata_count: Count(i64::try_from(all).unwrap_or(i64::MAX)),
        members_odata_next_link: (next < all).then(|| NextLink(format!("{SYSTEMS}?$skip={next}"))),
        ..Default::default()
    })
}

pub(super) fn system(
    config: &SimulatorConfig,
    system: &SimulatedSystem,
    state: &SystemState,
    power: PowerState,
    etag: Option<String>,
) -> Value {
    let path = format!("{SYSTEMS}/{}", system.id);
    let resets = state.resets.len();
    let mut document = value(&ComputerSystem {
        odata_id: Id(path.clone()),
        odata_etag: etag.map(Etag),
        id: resource::Id(system.id.clone()),
        name: resource::Name("Simulated system".to_owned()),
        manufacturer: Some(config.vendor.clone()),
        model: Some("Simulator 1".to_owned()),
        serial_number: Some(system.serial.clone()),
        sku: Some(format!("SKU-{}", system.serial)),
        uuid: Some(UUID(system.uuid.clone())),
        power_state: Some(power),
        boot: Some(state.boot.clone()),
        last_reset_time: config
            .last_reset_time
            .then(|| format!("2026-01-01T{:02}:{:02}:{:02}Z", resets / 3600, resets / 60 % 60, resets % 60)),
        ethernet_interfaces: link(format!("{path}/EthernetInterfaces")),
        links: Some(Links { managed_by: Some(link(MANAGER).into_iter().collect()), ..Default::default() }),
        actions: Some(Actions {
            computer_system_reset: Some(Reset {
                target: Some(format!("{path}/Actions/ComputerSystem.Reset")),
                title: None,
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    if let Some(boot) = document.get_mut("Boot").and_then(Value::as_object_mut) {
        let targets = json!(["None", "Pxe", "Hdd", "Cd", "UefiHttp"]);
        boot.insert("BootSourceOverrideTarget@Redfish.AllowableValues".to_owned(), targets);
    }
    if let Some(reset) = document.pointer_mut("/Actions/#ComputerSystem.Reset").and_then(Value::as_object_mut)
    {
        match &config.reset_types {
            ResetTypes::Unsaid => {}
            ResetTypes::AllowableValues(types) => {
                reset.insert("ResetType@Redfish.AllowableValues".to_owned(), json!(types));
            }
            ResetTypes::ActionInfo(_) => {
                reset.insert("@Redfish.ActionInfo".to_owned(), json!(format!("{path}/ResetActionInfo")));
            }
        }
    }
    document
}

pub(super) fn reset_action_info(config: &SimulatorConfig, id: &str) -> Option<Value> {
    let ResetTypes::ActionInfo(types) = &config.reset_types else { return None };
    Some(json!({
        "@odata.id": format!("{SYSTEMS}/{id}/ResetActionInfo"),
        "@odata.type": "#ActionInfo.v1_3_0.ActionInfo",
        "Id": "ResetActionInfo",
        "Name": "Reset Action Info",
        "Parameters": [{ "Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": types }],
    }))
}

pub(super) fn interface(system: &SimulatedSystem, number: usize) -> Option<Value> {
    let mac = system.macs.get(number)?;
    Some(value(&EthernetInterface {
        odata_id: Id(format!("{SYSTEMS}/{}/EthernetInterfaces/{number}", system.id)),
        id: resource::Id(number.to_string()),
        name: resource::Name(format!("NIC {number}")),
        mac_address: Some(MACAddress(mac.clone())),
        permanent_mac_address: Some(MACAddress(mac.clone())),
        ..Default::default()
    }))
}

pub(super) fn manager() -> Value {
    json!({
        "@odata.id": MANAGER,
        "@odata.type": "#Manager.v1_18_0.Manager",
        "Id": "BMC",
        "Name": "Simulated BMC",
        "ManagerType": "BMC",
        "FirmwareVersion": "1.2.3-sim",
    })
}

/// An error body (DSP0266 §8.6).
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({ "error": {
        "code": format!("Base.1.18.{code}"),
        "message": message,
        "@Message.ExtendedInfo": [{ "MessageId": format!("Base.1.18.{code}"), "Message": message }],
    } })
}
