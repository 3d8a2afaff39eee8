//! PURE. Reads what is needed out of Redfish documents, and nothing else: a document with a wrong processor summary
//! still says whether the machine is on. No panic on any JSON, no trust in any type.

use super::{Power, power::power_of};
use provisioner_wire::Mac;
use serde_json::Value;
use uuid::Uuid;

/// A system, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The path it was read from.
    pub path: String,
    pub etag: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub sku: Option<String>,
    pub uuid: Option<Uuid>,
    pub power: Power,
    pub boot: Option<BootState>,
    pub reset: Option<ResetAction>,
    pub interfaces: Option<String>,
    /// Where changes are to be staged (`@Redfish.Settings`).
    pub settings: Option<String>,
    pub managers: Vec<String>,
    pub last_reset: Option<String>,
}

/// The `Boot` object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootState {
    pub enabled: Option<String>,
    pub target: Option<String>,
    pub mode: Option<String>,
    pub http_uri: Option<String>,
    /// The targets it allows; `None` where it does not say.
    pub targets: Option<Vec<String>>,
}

/// How a system is reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetAction {
    pub target: String,
    /// The types it allows; `None` where it does not say here.
    pub allowed: Option<Vec<String>>,
    /// Where it says so instead.
    pub action_info: Option<String>,
}

impl System {
    pub fn read(path: &str, document: &Value) -> Self {
        let text = |key| text_of(document, key);
        Self {
            path: path.to_owned(),
            etag: etag_of(document),
            manufacturer: text("Manufacturer"),
            model: text("Model"),
            serial: text("SerialNumber"),
            sku: text("SKU"),
            uuid: text("UUID").and_then(|uuid| Uuid::parse_str(&uuid).ok()).filter(|uuid| !uuid.is_nil()),
            power: power_of(document.get("PowerState").and_then(Value::as_str)),
            boot: document.get("Boot").and_then(BootState::read),
            reset: document.pointer("/Actions/#ComputerSystem.Reset").and_then(ResetAction::read),
            interfaces: link_of(document.get("EthernetInterfaces")),
            settings: link_of(document.pointer("/@Redfish.Settings/SettingsObject")),
            managers: links_of(document.pointer("/Links/ManagedBy")),
            last_reset: text("LastResetTime"),
        }
    }
}

impl BootState {
    /// `None` unless it is an object that has an override at all (a staged-settings object may only have an order).
    pub fn read(boot: &Value) -> Option<Self> {
        let known = ["BootSourceOverrideEnabled", "BootSourceOverrideTarget"];
        known.iter().any(|key| boot.get(key).is_some()).then(|| Self {
            enabled: text_of(boot, "BootSourceOverrideEnabled"),
            target: text_of(boot, "BootSourceOverrideTarget"),
            mode: text_of(boot, "BootSourceOverrideMode"),
            http_uri: text_of(boot, "HttpBootUri"),
            targets: texts_of(boot.get("BootSourceOverrideTarget@Redfish.AllowableValues")),
        })
    }
}

impl ResetAction {
    fn read(action: &Value) -> Option<Self> {
        Some(Self {
            target: text_of(action, "target")?,
            allowed: texts_of(action.get("ResetType@Redfish.AllowableValues")),
            action_info: match action.get("@Redfish.ActionInfo") {
                Some(Value::String(path)) => local(path),
                other => link_of(other),
            },
        })
    }
}

/// The members of a collection, and where it goes on.
pub fn members_of(collection: &Value) -> (Vec<String>, Option<String>) {
    let next = collection.get("Members@odata.nextLink");
    let next = next.and_then(Value::as_str).and_then(local).or_else(|| link_of(next));
    (links_of(collection.get("Members")), next)
}

/// The reset types an ActionInfo allows.
pub fn reset_types_of(action_info: &Value) -> Option<Vec<String>> {
    let parameters = action_info.get("Parameters")?.as_array()?;
    let reset = parameters.iter().find(|p| p.get("Name").and_then(Value::as_str) == Some("ResetType"))?;
    texts_of(reset.get("AllowableValues"))
}

/// The MAC that the NIC was made with, else the one it uses; `None` where it gives none that a NIC can own.
pub fn mac_of(interface: &Value) -> Option<Mac> {
    let keys = ["PermanentMACAddress", "MACAddress"];
    let texts = keys.iter().filter_map(|key| text_of(interface, key));
    texts.filter_map(|text| text.parse().ok()).find(|mac: &Mac| mac.is_unicast())
}

/// Where sessions are made: what the root says, else the standard place when there is a session service.
pub fn sessions_of(root: &Value) -> Option<String> {
    link_of(root.pointer("/Links/Sessions")).or_else(|| {
        link_of(root.get("SessionService"))
            .map(|service| format!("{}/Sessions", service.trim_end_matches('/')))
    })
}

/// What an error body says, for a person: its extended messages, else its message, else the beginning of the text.
/// The extended info may be a list or (iDRAC) a single object.
pub fn message_of(body: &str) -> String {
    let Ok(document) = serde_json::from_str::<Value>(body) else {
        return shown(body);
    };
    let error = document.get("error").unwrap_or(&document);
    let messages: Vec<String> =
        extended_info(error).filter_map(|info| text_of(info, "Message")).take(3).collect();
    if messages.is_empty() {
        return shown(error.get("message").and_then(Value::as_str).unwrap_or(body));
    }
    shown(&messages.join(" "))
}

/// Whether an error (or success) body carries a message of this name, in any registry and version.
pub fn has_message(body: &str, name: &str) -> bool {
    let Ok(document) = serde_json::from_str::<Value>(body) else {
        return false;
    };
    let error = document.get("error").unwrap_or(&document);
    let named = |id: &str| id.rsplit('.').next() == Some(name);
    let code = error.get("code").and_then(Value::as_str);
    code.is_some_and(named)
        || extended_info(error).any(|info| info.get("MessageId").and_then(Value::as_str).is_some_and(named))
}

fn extended_info(error: &Value) -> impl Iterator<Item = &Value> {
    let info = error.get("@Message.ExtendedInfo");
    let list = info.and_then(Value::as_array).map(Vec::as_slice);
    let single = info.filter(|info| info.is_object());
    list.unwrap_or_default().iter().chain(single)
}

/// At most 300 characters, without control characters: it goes to logs and pages.
fn shown(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if clean.trim().is_empty() { "no message".to_owned() } else { clean.trim().to_owned() }
}

/// A non-empty text.
pub fn text_of(object: &Value, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.chars().take(2048).collect())
}

/// The ETag; an empty one is none.
pub fn etag_of(document: &Value) -> Option<String> {
    text_of(document, "@odata.etag")
}

fn texts_of(list: Option<&Value>) -> Option<Vec<String>> {
    let texts: Vec<String> = list?.as_array()?.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    (!texts.is_empty()).then_some(texts)
}

/// The path an `{"@odata.id": …}` points to.
pub fn link_of(link: Option<&Value>) -> Option<String> {
    link?.get("@odata.id")?.as_str().and_then(local)
}

fn links_of(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|link| link_of(Some(link))).collect()
}

/// A link as a path on the BMC itself: requests (and so credentials) never go to another origin, whatever host an
/// absolute link names. Fragments are cut: they point into the document.
fn local(link: &str) -> Option<String> {
    let path = match link.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..))?,
        None => link,
    };
    let path = path.split('#').next().unwrap_or_default();
    (path.starts_with('/') && !path.starts_with("//")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn links_stay_on_the_bmc() {
        for (link, path) in [
            ("/redfish/v1/Systems/1", Some("/redfish/v1/Systems/1")),
            ("https://evil.example/redfish/v1/Systems/1", Some("/redfish/v1/Systems/1")),
            ("/redfish/v1/Systems/1#/Boot", Some("/redfish/v1/Systems/1")),
            ("//evil.example/x", None),
            ("https://evil.example", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(local(link).as_deref(), path, "{link}");
        }
    }

    #[test]
    fn error_bodies_of_all_kinds() {
        let one = json!({"error": {"code": "Base.1.0.GeneralError", "message": "general", "@Message.ExtendedInfo":
            {"MessageId": "IDRAC.2.1.SYS403", "Message": "Unable to run.\r\n"}}});
        let list = json!({"error": {"@Message.ExtendedInfo":
            [{"MessageId": "Base.1.8.PasswordChangeRequired", "Message": "Change it."}, {"Message": "Now."}]}});
        assert_eq!(message_of(&one.to_string()), "Unable to run.");
        assert_eq!(message_of(&list.to_string()), "Change it. Now.");
        assert_eq!(message_of(r#"{"error":{"message":"plain"}}"#), "plain");
        assert_eq!(message_of("<html>\n<h1>502"), "<html> <h1>502");
        assert_eq!(message_of(""), "no message");
        assert!(has_message(&list.to_string(), "PasswordChangeRequired"));
        assert!(has_message(&one.to_string(), "SYS403") && !has_message(&one.to_string(), "403"));
    }

    #[test]
    fn a_mac_is_the_permanent_one_and_never_an_empty_text() {
        let read = |v: Value| mac_of(&v).map(|mac| mac.to_string());
        let permanent =
            json!({"MACAddress": "00:11:22:33:44:55", "PermanentMACAddress": "02:00:00:00:00:01"});
        assert_eq!(read(permanent).as_deref(), Some("02:00:00:00:00:01"));
        let used = json!({"MACAddress": "00:11:22:33:44:55", "PermanentMACAddress": ""});
        assert_eq!(read(used).as_deref(), Some("00:11:22:33:44:55"));
        assert_eq!(read(json!({"MACAddress": null, "PermanentMACAddress": "ff:ff:ff:ff:ff:ff"})), None);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let keys = "(Boot|Actions|#ComputerSystem.Reset|Links|ManagedBy|@odata.id|Members|error|PowerState|[a-z]{1,3})";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_document(value in json_value(), text: String) {
            let _ = System::read("/x", &value);
            let _ = (members_of(&value), reset_types_of(&value), mac_of(&value), sessions_of(&value));
            let _ = (message_of(&value.to_string()), message_of(&text), has_message(&text, "X"));
        }
    }
}
