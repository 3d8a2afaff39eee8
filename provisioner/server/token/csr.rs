//! PURE. Whether a kubelet's request for its first certificate is that of the machine its token was minted for.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use x509_parser::{certification_request::X509CertificationRequest, pem::Pem, prelude::FromDer};

/// The only signer that is looked at.
pub const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const USER: &str = "system:bootstrap:";

/// A request as far as it matters. Everything in it was written by a stranger, but `user` and `groups`: those the API
/// server has put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub name: String,
    /// Id of the bootstrap token that it was sent with.
    pub token_id: String,
    pub groups: Vec<String>,
    usages: Vec<String>,
    request: Vec<u8>,
}

/// An undecided request of a bootstrap token to our signer.
pub fn read(object: &Value) -> Option<Asked> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let list = |pointer: &str| -> Vec<String> {
        let items = object.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let decided =
        object.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
    if decided || text("/spec/signerName") != Some(SIGNER) {
        return None;
    }
    Some(Asked {
        name: text("/metadata/name")?.to_owned(),
        token_id: text("/spec/username")?.strip_prefix(USER)?.to_owned(),
        groups: list("/spec/groups"),
        usages: list("/spec/usages"),
        request: STANDARD.decode(text("/spec/request")?).ok()?,
    })
}

/// `Ok` where it may be approved for this node; else why not.
pub fn fits(asked: &Asked, node: &str) -> Result<(), String> {
    let mut usages: Vec<&str> = asked.usages.iter().map(String::as_str).collect();
    usages.sort_unstable();
    // kubelets with RSA keys ask for key encipherment, too.
    if !matches!(
        usages.as_slice(),
        ["client auth", "digital signature"] | ["client auth", "digital signature", "key encipherment"]
    ) {
        return Err("it asks for other usages than a kubelet's client certificate".to_owned());
    }
    let pem = Pem::iter_from_buffer(&asked.request).next().and_then(Result::ok);
    let pem = pem.filter(|p| p.label == "CERTIFICATE REQUEST").ok_or("its request is not PEM")?;
    let (rest, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|_| "its request is not PKCS #10")?;
    if !rest.is_empty() {
        return Err("there is something behind its request".to_owned());
    }
    request.verify_signature().map_err(|_| "its request is not signed by its own key")?;
    subject(&request, node)?;
    let extensions = request.requested_extensions().map_or(0, Iterator::count);
    if extensions != 0 {
        return Err(
            "it asks for extensions (names, rights) that a kubelet's client certificate has not".to_owned()
        );
    }
    Ok(())
}

fn subject(request: &X509CertificationRequest<'_>, node: &str) -> Result<(), String> {
    let subject = &request.certification_request_info.subject;
    let values = |attributes: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
        attributes.map(|a| a.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let (organizations, names) =
        (values(&mut subject.iter_organization()), values(&mut subject.iter_common_name()));
    if subject.iter_attributes().count() != 2 || organizations != ["system:nodes"] {
        return Err("its subject is not O=system:nodes with one CN".to_owned());
    }
    if names != [format!("system:node:{node}")] {
        return Err(format!("its token was minted for the node {node}, and it asks for another name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    fn request(names: &[(DnType, &str)], san: Option<&str>) -> String {
        let mut params =
            CertificateParams::new(san.map(str::to_owned).into_iter().collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = KeyPair::generate().unwrap();
        STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
    }

    fn object(request: &str, usages: &[&str]) -> Value {
        json!({
            "metadata": { "name": "csr-1" },
            "spec": { "signerName": SIGNER, "username": "system:bootstrap:abcdef", "usages": usages,
                "groups": ["system:bootstrappers"], "request": request },
        })
    }

    const USAGES: &[&str] = &["digital signature", "client auth"];

    #[test]
    fn only_the_kubelet_of_this_very_node_fits() {
        let (o, cn) = (DnType::OrganizationName, DnType::CommonName);
        let good = request(&[(o.clone(), "system:nodes"), (cn.clone(), "system:node:node-1")], None);
        let asked = read(&object(&good, USAGES)).unwrap();
        assert_eq!(asked.token_id, "abcdef");
        fits(&asked, "node-1").unwrap();
        fits(
            &read(&object(&good, &["client auth", "digital signature", "key encipherment"])).unwrap(),
            "node-1",
        )
        .unwrap();
        assert!(fits(&asked, "node-2").unwrap_err().contains("another name"));
        let with = |names: &[(DnType, &str)], san, usages| {
            fits(&read(&object(&request(names, san), usages)).unwrap(), "node-1").unwrap_err()
        };
        let right = [(o.clone(), "system:nodes"), (cn.clone(), "system:node:node-1")];
        assert!(with(&right, None, &["server auth", "digital signature"]).contains("usages"));
        assert!(with(&right, Some("api.example"), USAGES).contains("extensions"));
        let masters = [(o.clone(), "system:masters"), (cn.clone(), "system:node:node-1")];
        assert!(with(&masters, None, USAGES).contains("subject"));
        let more = [right[0].clone(), right[1].clone(), (DnType::OrganizationalUnitName, "system:masters")];
        assert!(with(&more, None, USAGES).contains("subject"));
        assert!(with(&[(cn, "system:node:node-1")], None, USAGES).contains("subject"));
        let mut broken = asked.clone();
        broken.request.truncate(100);
        assert!(fits(&broken, "node-1").is_err());
    }

    #[test]
    fn what_is_decided_or_others_is_left_alone() {
        let mut decided = object("AA==", USAGES);
        assert!(read(&decided).is_some());
        decided["status"] = json!({ "conditions": [{ "type": "Denied" }] });
        assert_eq!(read(&decided), None);
        let mut other = object("AA==", USAGES);
        other["spec"]["signerName"] = json!("kubernetes.io/kubelet-serving");
        assert_eq!(read(&other), None);
        let mut user = object("AA==", USAGES);
        user["spec"]["username"] = json!("system:node:node-1");
        assert_eq!(read(&user), None);
    }
}
