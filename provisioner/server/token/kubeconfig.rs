//! PURE. Credentials for a Kubernetes API: a kubeconfig, or the bare token of a service account.
//!
//! Of a kubeconfig only what stands in it is used: a token, or a client certificate with its key. One that names files
//! of the server or runs a program (`exec`, `auth-provider`, `tokenFile`) is refused: whoever may declare a cluster must
//! not run programs here. Address and authority are the cluster record's, so that the secret goes nowhere else.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use std::fmt;
use zeroize::Zeroizing;

/// How this server shows who it is.
pub enum Credentials {
    Bearer(Zeroizing<String>),
    /// Certificates and their key, PEM.
    Certificate {
        chain: String,
        key: Zeroizing<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(…)",
            Self::Certificate { .. } => "Certificate(…)",
        })
    }
}

/// `Display` never quotes what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not credentials for a Kubernetes API: {0}")]
pub struct BadCredentials(String);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: serde_json::Map<String, serde_json::Value>,
}

impl Credentials {
    pub fn parse(text: &str) -> Result<Self, BadCredentials> {
        let bare = text.trim();
        if !bare.is_empty() && !bare.contains(char::is_whitespace) && !bare.contains(':') {
            if !bare.bytes().all(|c| c.is_ascii_graphic()) {
                return wrong("the token holds other characters than printable ASCII");
            }
            return Ok(Self::Bearer(Zeroizing::new(bare.to_owned())));
        }
        let file: File = match serde_saphyr::from_str(text) {
            Ok(file) => file,
            Err(_) => return wrong("neither a kubeconfig nor one token on one line"),
        };
        Self::of_user(file.user()?)
    }

    fn of_user(user: &serde_json::Map<String, serde_json::Value>) -> Result<Self, BadCredentials> {
        for refused in [
            "exec",
            "auth-provider",
            "tokenFile",
            "client-certificate",
            "client-key",
            "username",
            "password",
            "as",
        ] {
            if user.contains_key(refused) {
                return wrong(&format!(
                    "the kubeconfig has `{refused}`; put a token or client-certificate-data and client-key-data in it"
                ));
            }
        }
        let text = |key: &str| user.get(key).and_then(serde_json::Value::as_str);
        if let Some(token) = text("token").filter(|t| !t.is_empty()) {
            if !token.bytes().all(|c| c.is_ascii_graphic()) {
                return wrong("the token holds other characters than printable ASCII");
            }
            return Ok(Self::Bearer(Zeroizing::new(token.to_owned())));
        }
        let pem = |key: &str| {
            let bytes = STANDARD.decode(text(key)?).ok()?;
            String::from_utf8(bytes).ok()
        };
        let (Some(chain), Some(key)) = (pem("client-certificate-data"), pem("client-key-data")) else {
            return wrong("the user has neither a token nor client-certificate-data and client-key-data");
        };
        let key = Zeroizing::new(key);
        if CertificateDer::from_pem_slice(chain.as_bytes()).is_err()
            || PrivateKeyDer::from_pem_slice(key.as_bytes()).is_err()
        {
            return wrong("client-certificate-data or client-key-data is not PEM");
        }
        Ok(Self::Certificate { chain, key })
    }
}

impl File {
    /// The current context's user, or the only one.
    fn user(&self) -> Result<&serde_json::Map<String, serde_json::Value>, BadCredentials> {
        let current = self.current_context.as_deref().filter(|name| !name.is_empty());
        let named = current.and_then(|name| self.contexts.iter().find(|c| c.name == name));
        let found = match (named, self.users.as_slice()) {
            (Some(context), users) => users.iter().find(|u| u.name == context.context.user),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.map(|user| &user.user).ok_or_else(|| BadCredentials("the kubeconfig names no user".to_owned()))
    }
}

fn wrong<T>(what: &str) -> Result<T, BadCredentials> {
    Err(BadCredentials(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{user: u, cluster: c}}}}]\n\
             users: [{{name: other, user: {{token: wrong}}}}, {{name: u, user: {user}}}]\n"
        )
    }

    #[test]
    fn a_token_is_read_bare_and_from_a_kubeconfig() {
        for text in [" eyJh.eyJz.c2ln\n".to_owned(), config("{token: eyJh.eyJz.c2ln}")] {
            let Credentials::Bearer(token) = Credentials::parse(&text).unwrap() else { panic!("{text}") };
            assert_eq!(token.as_str(), "eyJh.eyJz.c2ln");
        }
    }

    #[test]
    fn what_would_run_or_read_something_is_refused_and_nothing_is_quoted() {
        for user in [
            "{exec: {command: hunter2}}",
            "{tokenFile: /hunter2}",
            "{client-certificate: /hunter2, client-key: /hunter2}",
            "{auth-provider: {name: hunter2}}",
            "{username: admin, password: hunter2}",
            "{client-certificate-data: aHVudGVyMg==, client-key-data: aHVudGVyMg==}",
            "{}",
        ] {
            let error = Credentials::parse(&config(user)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for text in ["", "two hunter2 words", "users: [hunter2]"] {
            assert!(!Credentials::parse(text).unwrap_err().to_string().contains("hunter2"));
        }
    }
}
