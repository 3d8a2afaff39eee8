//! PURE. The boot override: what to send, and whether what is read back is what was meant.

use super::{NetBoot, OverrideSet, document::BootState, quirks::Quirks};
use redfish_codegen::models::computer_system::{
    BootSource,
    v1_20_1::{Boot, BootSourceOverrideEnabled, BootSourceOverrideMode},
};
use serde::Serialize;

/// A PATCH of a system that changes its boot override and nothing else.
#[derive(Debug, Clone, Serialize)]
pub struct BootPatch {
    #[serde(rename = "Boot")]
    pub boot: Boot,
}

/// The smallest patch for `method`. The mode is left alone unless it must change (setting it breaks some boards, and
/// changes what the installed system boots with). The error says what the machine lacks.
pub fn set(state: &BootState, method: &NetBoot, quirks: &Quirks) -> Result<BootPatch, String> {
    let (target, name, uri) = match method {
        NetBoot::Pxe => (BootSource::Pxe, "Pxe", None),
        NetBoot::UefiHttp { url } => (BootSource::UefiHttp, "UefiHttp", url.clone()),
    };
    if let Some(offered) = &state.targets
        && !offered.iter().any(|offered| offered == name)
    {
        return Err(format!("it cannot boot from {name}, only from {}", offered.join(", ")));
    }
    let leaves_legacy = matches!(method, NetBoot::UefiHttp { .. }) && state.mode.as_deref() == Some("Legacy");
    let mode = (leaves_legacy && !quirks.never_send_mode).then_some(BootSourceOverrideMode::UEFI);
    Ok(BootPatch {
        boot: Boot {
            boot_source_override_enabled: Some(BootSourceOverrideEnabled::Once),
            boot_source_override_target: Some(target),
            boot_source_override_mode: mode,
            http_boot_uri: uri,
            ..Boot::default()
        },
    })
}

/// The patch that ends an override. `target_too`: for an emulator that ignores `Disabled`, the disk by name.
pub fn clear(target_too: bool) -> BootPatch {
    let boot = if target_too {
        Boot {
            boot_source_override_enabled: Some(BootSourceOverrideEnabled::Continuous),
            boot_source_override_target: Some(BootSource::Hdd),
            ..Boot::default()
        }
    } else {
        Boot { boot_source_override_enabled: Some(BootSourceOverrideEnabled::Disabled), ..Boot::default() }
    };
    BootPatch { boot }
}

/// How `method` holds in `state`; `None`: it does not. A URL is compared only where the BMC shows one.
pub fn holds(state: &BootState, method: &NetBoot) -> Option<OverrideSet> {
    let name = match method {
        NetBoot::Pxe => "Pxe",
        NetBoot::UefiHttp { .. } => "UefiHttp",
    };
    if state.target.as_deref() != Some(name) {
        return None;
    }
    if let (NetBoot::UefiHttp { url: Some(wanted) }, Some(shown)) = (method, &state.http_uri)
        && wanted != shown
    {
        return None;
    }
    match state.enabled.as_deref() {
        Some("Once") => Some(OverrideSet::Once),
        Some("Continuous") => Some(OverrideSet::Continuous),
        _ => None,
    }
}

/// Whether no override leads to the network.
pub fn is_clear(state: &BootState) -> bool {
    holds(state, &NetBoot::Pxe).is_none() && holds(state, &NetBoot::UefiHttp { url: None }).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(enabled: &str, target: &str, mode: Option<&str>) -> BootState {
        BootState {
            enabled: Some(enabled.into()),
            target: Some(target.into()),
            mode: mode.map(Into::into),
            ..BootState::default()
        }
    }

    #[test]
    fn the_patch_is_the_smallest() {
        let sent =
            |s: &BootState, m: &NetBoot, q: &Quirks| serde_json::to_value(set(s, m, q).unwrap()).unwrap();
        let none = Quirks::default();
        let uefi = state("Disabled", "None", Some("UEFI"));
        assert_eq!(
            sent(&uefi, &NetBoot::Pxe, &none),
            json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}})
        );
        let http = NetBoot::UefiHttp { url: Some("http://10.0.0.1/ipxe.efi".into()) };
        assert_eq!(
            sent(&uefi, &http, &none),
            json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp",
                "HttpBootUri": "http://10.0.0.1/ipxe.efi"}})
        );
        let legacy = state("Disabled", "None", Some("Legacy"));
        assert_eq!(sent(&legacy, &http, &none)["Boot"]["BootSourceOverrideMode"], "UEFI");
        let keep = Quirks { never_send_mode: true, ..none };
        assert_eq!(sent(&legacy, &http, &keep)["Boot"].get("BootSourceOverrideMode"), None);
        assert_eq!(sent(&legacy, &NetBoot::Pxe, &none)["Boot"].get("BootSourceOverrideMode"), None);
    }

    #[test]
    fn a_target_that_is_not_offered_is_refused_by_name() {
        let s = BootState { targets: Some(vec!["Hdd".into(), "Pxe".into()]), ..BootState::default() };
        assert!(set(&s, &NetBoot::Pxe, &Quirks::default()).is_ok());
        let error = set(&s, &NetBoot::UefiHttp { url: None }, &Quirks::default()).unwrap_err();
        assert_eq!(error, "it cannot boot from UefiHttp, only from Hdd, Pxe");
    }

    #[test]
    fn what_is_read_back() {
        let http = |url: Option<&str>| NetBoot::UefiHttp { url: url.map(Into::into) };
        assert_eq!(holds(&state("Once", "Pxe", None), &NetBoot::Pxe), Some(OverrideSet::Once));
        assert_eq!(holds(&state("Continuous", "Pxe", None), &NetBoot::Pxe), Some(OverrideSet::Continuous));
        assert_eq!(holds(&state("Disabled", "Pxe", None), &NetBoot::Pxe), None);
        assert_eq!(holds(&state("Once", "Hdd", None), &NetBoot::Pxe), None);
        assert_eq!(
            holds(&state("Once", "UefiHttp", None), &http(Some("http://a/"))),
            Some(OverrideSet::Once)
        );
        let other = BootState { http_uri: Some("http://b/".into()), ..state("Once", "UefiHttp", None) };
        assert_eq!(holds(&other, &http(Some("http://a/"))), None);
        assert!(is_clear(&state("Disabled", "Pxe", None)) && is_clear(&state("Once", "Hdd", None)));
        assert!(!is_clear(&state("Continuous", "Pxe", None)));
    }
}
