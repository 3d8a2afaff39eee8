//! What a disk is wiped with: what its drive can do, and what the profile asks for. PURE.

use provisioner_wire::wipe::{Means, PassedOver, WipeMethod};

/// What a drive says that it can do to all of its own, and what it says of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Strongest first.
    pub can: Vec<Means>,
    /// What it has but cannot be used now, with the reason: a frozen security feature, another namespace on the drive.
    pub cannot: Vec<PassedOver>,
}

/// What to try, in this order. A failure of one leads to the next, and stands in the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub tries: Vec<Means>,
    /// Stronger ones that were not even tried.
    pub passed_over: Vec<PassedOver>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a purge is asked for, and the drive can do none (NVMe sanitize or format, ATA enhanced security erase){}", told(.0)
)]
pub struct NoPurge(pub Vec<PassedOver>);

fn told(cannot: &[PassedOver]) -> String {
    cannot.iter().map(|passed| format!("; {}: {}", passed.means, passed.why)).collect()
}

/// The order of [`Abilities::can`]: block erases before crypto erases, which prove nothing by reading; the whole drive
/// before a part of it.
pub const STRONGEST_FIRST: [Means; 6] = [
    Means::NvmeSanitizeBlock,
    Means::NvmeSanitizeCrypto,
    Means::NvmeFormatErase,
    Means::NvmeFormatCrypto,
    Means::AtaEnhancedErase,
    Means::AtaErase,
];

pub fn choose(asked: WipeMethod, abilities: &Abilities) -> Result<Choice, NoPurge> {
    let drive = || STRONGEST_FIRST.into_iter().filter(|means| abilities.can.contains(means));
    let passed_over = abilities.cannot.clone();
    let only = |tries: Vec<Means>| Choice { tries, passed_over: Vec::new() };
    Ok(match asked {
        WipeMethod::Metadata => only(vec![Means::Metadata]),
        WipeMethod::Discard => only(vec![Means::Discard, Means::Overwrite]),
        WipeMethod::Overwrite => only(vec![Means::Overwrite]),
        WipeMethod::Clear => {
            Choice { tries: drive().chain([Means::Discard, Means::Overwrite]).collect(), passed_over }
        }
        WipeMethod::Purge => {
            let tries: Vec<Means> = drive().filter(|means| means.is_purge()).collect();
            if tries.is_empty() {
                return Err(NoPurge(passed_over));
            }
            Choice { tries, passed_over }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Means::*;

    fn frozen() -> Vec<PassedOver> {
        vec![PassedOver { means: AtaErase, why: "its security is frozen".into() }]
    }

    #[test]
    fn what_is_asked_and_what_the_drive_can_give_what_is_tried() {
        let nvme = [NvmeFormatErase, NvmeFormatCrypto, NvmeSanitizeBlock];
        let sanitize = [NvmeSanitizeBlock, NvmeSanitizeCrypto, NvmeFormatErase];
        let none: [Means; 0] = [];
        let table: [(WipeMethod, &[Means], &[Means]); 14] = [
            (WipeMethod::Metadata, &nvme, &[Metadata]),
            (WipeMethod::Metadata, &none, &[Metadata]),
            (WipeMethod::Discard, &nvme, &[Discard, Overwrite]),
            (WipeMethod::Discard, &none, &[Discard, Overwrite]),
            (WipeMethod::Overwrite, &nvme, &[Overwrite]),
            (WipeMethod::Clear, &none, &[Discard, Overwrite]),
            (WipeMethod::Clear, &[AtaErase], &[AtaErase, Discard, Overwrite]),
            (
                WipeMethod::Clear,
                &nvme,
                &[NvmeSanitizeBlock, NvmeFormatErase, NvmeFormatCrypto, Discard, Overwrite],
            ),
            (WipeMethod::Purge, &nvme, &[NvmeSanitizeBlock, NvmeFormatErase, NvmeFormatCrypto]),
            (WipeMethod::Purge, &sanitize, &[NvmeSanitizeBlock, NvmeSanitizeCrypto, NvmeFormatErase]),
            (WipeMethod::Purge, &[AtaErase, AtaEnhancedErase], &[AtaEnhancedErase]),
            (WipeMethod::Purge, &[NvmeFormatCrypto], &[NvmeFormatCrypto]),
            (WipeMethod::Purge, &[AtaErase], &none),
            (WipeMethod::Purge, &none, &none),
        ];
        for (asked, can, tries) in table {
            let abilities = Abilities { can: can.to_vec(), cannot: frozen() };
            match choose(asked, &abilities) {
                Ok(choice) => {
                    assert_eq!(choice.tries, tries, "{asked:?} {can:?}");
                    let tells = matches!(asked, WipeMethod::Clear | WipeMethod::Purge);
                    assert_eq!(choice.passed_over.is_empty(), !tells, "{asked:?}");
                    assert!(asked != WipeMethod::Purge || choice.tries.iter().all(|m| m.is_purge()));
                }
                Err(error) => {
                    assert!(tries.is_empty() && asked == WipeMethod::Purge, "{asked:?} {can:?}");
                    assert!(error.to_string().contains("its security is frozen"), "{error}");
                }
            }
        }
    }
}
