//! PURE. What particular BMCs need, in one table. nv-redfish brings its own for documents and replies (Dell, HPE, AMI,
//! Lenovo, Supermicro, NVIDIA); here stands what concerns our own decisions.

use serde_json::Value;

/// How to treat one BMC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Boot changes go to this place below the system, not to the system. AMI answers a direct PATCH with
    /// `Ami.1.0.OperationSupportedInFutureStateURI`.
    pub staged_at: Option<&'static str>,
    /// A PATCH with `BootSourceOverrideMode` is answered with an error or breaks the boot order.
    pub never_send_mode: bool,
    /// SMBIOS' system serial is `SKU` (Dell's service tag); `SerialNumber` is the board's.
    pub serial_is_sku: bool,
}

/// What a BMC shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The service root.
    pub root: &'a Value,
    /// The system's `Manufacturer`.
    pub manufacturer: Option<&'a str>,
}

struct Row {
    /// For logs.
    name: &'static str,
    /// Case-insensitive: the root's `Vendor`, a key of its `Oem`, or the system's manufacturer begins with it.
    vendor: &'static str,
    /// Empty for any.
    product: &'static str,
    apply: fn(&mut Quirks),
}

const TABLE: &[Row] = &[
    Row { name: "AMI stages at /SD", vendor: "AMI", product: "", apply: |q| q.staged_at = Some("/SD") },
    // Boards under AMI's MegaRAC keep their mode in the BIOS settings and refuse it here.
    Row { name: "AMI keeps the mode", vendor: "AMI", product: "", apply: |q| q.never_send_mode = true },
    Row { name: "Dell's service tag", vendor: "Dell", product: "", apply: |q| q.serial_is_sku = true },
    // The mode has no effect there beside the boot order, and a BIOS job would be queued for it.
    Row {
        name: "BlueField is UEFI only",
        vendor: "Nvidia",
        product: "BlueField",
        apply: |q| q.never_send_mode = true,
    },
];

impl Quirks {
    /// All rows that match.
    pub fn of(evidence: Evidence<'_>) -> Self {
        let mut quirks = Self::default();
        for row in TABLE.iter().filter(|row| row.matches(evidence)) {
            tracing::debug!(quirk = row.name, "BMC quirk");
            (row.apply)(&mut quirks);
        }
        quirks
    }
}

impl Row {
    fn matches(&self, evidence: Evidence<'_>) -> bool {
        let text = |key| evidence.root.get(key).and_then(Value::as_str).unwrap_or_default();
        let oem = evidence.root.get("Oem").and_then(Value::as_object);
        let vendor = begins(text("Vendor"), self.vendor)
            || oem.is_some_and(|oem| oem.keys().any(|key| key.eq_ignore_ascii_case(self.vendor)))
            || evidence.manufacturer.is_some_and(|name| begins(name, self.vendor));
        vendor && begins(text("Product"), self.product)
    }
}

fn begins(text: &str, with: &str) -> bool {
    text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn table() {
        let ami = Quirks { staged_at: Some("/SD"), never_send_mode: true, ..Quirks::default() };
        let dell = Quirks { serial_is_sku: true, ..Quirks::default() };
        for (root, manufacturer, expected) in [
            (json!({"Vendor": "AMI"}), Some("NVIDIA"), &ami),
            (json!({"Oem": {"Ami": {}}}), None, &ami),
            (json!({"Vendor": "Dell"}), None, &dell),
            (json!({}), Some("Dell Inc."), &dell),
            (json!({"Vendor": "HPE"}), Some("HPE"), &Quirks::default()),
            (json!({"Vendor": null, "Oem": []}), None, &Quirks::default()),
            (json!([]), Some(""), &Quirks::default()),
        ] {
            assert_eq!(
                &Quirks::of(Evidence { root: &root, manufacturer }),
                expected,
                "{root} {manufacturer:?}"
            );
        }
    }
}
