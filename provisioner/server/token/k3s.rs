//! PURE. Join tokens of k3s and RKE2: `K10<SHA-256 of the CA's PEM>::<id>.<secret>`, where id and secret are those of
//! a bootstrap token in `kube-system`, and so have its TTL (k3s docs, "Token types: bootstrap").

use super::{Issued, PlainToken};

/// Names in `issued`.
pub const NAMES: &[&str] = &["k3s_server", "k3s_token"];

/// The join token of an agent. `ca_text_hash`: hexadecimal SHA-256 of the CA bundle as the server serves it at `/cacerts`.
pub fn agent_token(ca_text_hash: &str, bootstrap: &PlainToken) -> String {
    format!("K10{ca_text_hash}::{}", bootstrap.reveal())
}

/// What an agent's config needs.
pub fn issued(server: &str, join: &str) -> Issued {
    let mut issued = Issued::default();
    issued.put("k3s_server", server);
    issued.put("k3s_token", join);
    issued
}

/// A server token as k3s writes it (`K10…::server:…`) or a plain passphrase on one line.
pub fn is_server_token(text: &str) -> bool {
    let text = text.trim();
    (8..=512).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_in_k3s_form() {
        let token = agent_token(&"ab".repeat(32), &PlainToken::new("abcdef.0123456789abcdef"));
        assert_eq!(token, format!("K10{}::abcdef.0123456789abcdef", "ab".repeat(32)));
        assert!(
            is_server_token("K10abc::server:hunter2\n")
                && !is_server_token("short")
                && !is_server_token("two words")
        );
    }
}
