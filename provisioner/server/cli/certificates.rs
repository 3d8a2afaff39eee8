//! `wipe-certificate list|show|verify`.

use super::{
    Certificates, Output,
    client::{Client, Failure, segment},
    records,
};
use provisioner_wire::{
    ids::hex_into,
    wipe::{CERTIFICATE, Certificate, SignedCertificate},
};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;
use std::path::Path;

const COLUMNS: &[(&str, &str)] =
    &[("ID", "id"), ("MACHINE", "machine"), ("GENERATION", "generation"), ("DISK", "disk"), ("DONE", "done")];

pub async fn run(client: &Client, what: Certificates) -> Result<(), Failure> {
    match what {
        Certificates::List { machine } => {
            let query = machine.map(|name| format!("?machine={}", segment(&name))).unwrap_or_default();
            let mut all: Vec<Value> = client.get(&format!("/api/v1/wipe-certificates{query}")).await?;
            if client.output == Output::Table {
                all.iter_mut().for_each(tell_what_was_done);
            }
            records::show_list(client, COLUMNS, &all)
        }
        Certificates::Show { id } => {
            let one: Value = client.get(&format!("/api/v1/wipe-certificates/{}", segment(&id))).await?;
            records::show(client, &one)
        }
        Certificates::Verify { .. } => Ok(()),
    }
}

fn tell_what_was_done(view: &mut Value) {
    let text = view.get("certificate").and_then(Value::as_str).unwrap_or_default();
    let certificate: Option<Certificate> = serde_json::from_str(text).ok();
    if let (Some(certificate), Some(view)) = (certificate, view.as_object_mut()) {
        view.insert("done".to_owned(), certificate.wiped.done.to_string().into());
    }
}

/// Needs no server: the file (as `show -o json` writes it) and the site's key, which is known from elsewhere.
pub fn verify(file: &Path, public_key: &str) -> Result<String, Failure> {
    let value = records::read(file)?;
    let signed: SignedCertificate = serde_json::from_value(value)
        .map_err(|e| Failure::Usage(format!("{}: not a wipe certificate: {e}", file.display())))?;
    let certificate =
        check(&signed, public_key).map_err(|why| Failure::Failed(format!("{}: {why}", file.display())))?;
    let wiped = &certificate.wiped;
    Ok(format!(
        "good: machine {}, generation {}, disk {}: {}; {} of {} sampled places had data before, {} read as zero and \
         {} as something else now",
        certificate.machine,
        certificate.generation,
        wiped.disk,
        wiped.done,
        wiped.sampled.with_data_before,
        wiped.sampled.places,
        wiped.sampled.zero_now,
        wiped.sampled.changed_now,
    ))
}

/// The certificate, where `public_key` has signed it.
fn check(signed: &SignedCertificate, public_key: &str) -> Result<Certificate, String> {
    let (mut key, mut signature) = ([0; 32], [0; 64]);
    hex_into(public_key.trim(), &mut key).ok_or("the public key is not 64 hexadecimal digits")?;
    hex_into(&signed.signature, &mut signature).ok_or("its signature is not 128 hexadecimal digits")?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(signed.certificate.as_bytes(), &signature)
        .map_err(|_| "its signature is not of this key, or it was changed")?;
    let certificate: Certificate = serde_json::from_str(&signed.certificate)
        .map_err(|e| format!("what was signed is no certificate: {e}"))?;
    if certificate.kind != CERTIFICATE {
        return Err(format!("it is a {}, not a {CERTIFICATE}", certificate.kind));
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use provisioner_wire::{
        Generation,
        ids::hex,
        report::DiskIdentity,
        wipe::{Means, Sampled, WipeMethod, Wiped},
    };
    use ring::signature::{Ed25519KeyPair, KeyPair};

    fn signed() -> SignedCertificate {
        let certificate = Certificate {
            kind: CERTIFICATE.into(),
            machine: "node-1".parse().unwrap(),
            generation: Generation(2),
            workflow: uuid::Uuid::nil(),
            machine_serial: None,
            wiped: Wiped {
                disk: DiskIdentity { wwn: None, serial: Some("S1".into()), size_bytes: 1 << 30 },
                model: None,
                asked: WipeMethod::Purge,
                done: Means::NvmeFormatErase,
                passed_over: vec![],
                sampled: Sampled::default(),
                seconds: 3,
            },
            begun_ms: None,
            ended_ms: 7,
        };
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let certificate = serde_json::to_string(&certificate).unwrap();
        let signature = hex(key.sign(certificate.as_bytes()).as_ref());
        SignedCertificate { certificate, signature, public_key: hex(key.public_key().as_ref()) }
    }

    #[test]
    fn what_was_signed_is_good_and_nothing_else_is() {
        let good = signed();
        let key = good.public_key.clone();
        assert_eq!(check(&good, &key).unwrap().wiped.done, Means::NvmeFormatErase);
        let changed = SignedCertificate { certificate: good.certificate.replace("S1", "S2"), ..good.clone() };
        assert!(check(&changed, &key).unwrap_err().contains("changed"));
        // The key in the file is not believed.
        assert!(check(&good, &hex(&[9; 32])).is_err());
        assert!(check(&good, "abc").is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), serde_json::to_string(&good).unwrap()).unwrap();
        assert!(verify(file.path(), &key).unwrap().contains("node-1"));
    }
}
