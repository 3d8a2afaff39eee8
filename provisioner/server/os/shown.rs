//! PURE. A config as it may be shown: a word stands for each secret, also where a secret stands in base64.

use super::butane::data_url;
use base64::{Engine, engine::general_purpose::STANDARD};
use provisioner_wire::order::Config;

/// Puts `word` in the place of every secret, as it is, in base64 by itself, and inside Ignition's data URLs.
pub fn redact(config: &mut Config, secrets: &[&str], word: &str) {
    let hide = |text: &str| {
        secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| {
            text.replace(secret, word).replace(&STANDARD.encode(secret), word)
        })
    };
    for file in &mut config.files {
        file.contents = hide(&in_data_urls(&file.contents, hide));
    }
}

/// The text with each data URL of text made anew from what `change` makes of its text.
fn in_data_urls(text: &str, change: impl Fn(&str) -> String) -> String {
    let mut parts = text.split("data:;base64,");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let symbol = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        let (url, rest) = part.split_at(part.find(|c| !symbol(c)).unwrap_or(part.len()));
        let inner = STANDARD.decode(url).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        out += &inner.map_or_else(|| format!("data:;base64,{url}"), |inner| data_url(&change(&inner)));
        out += rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use provisioner_wire::order::ConfigFile;

    #[test]
    fn a_secret_is_shown_in_no_form() {
        let (token, key) = ("abcdef.0123456789abcdef", "s3cr3t-key");
        let contents = format!(
            "a: {token}\nb: \"{}\"\nc: \"{}\"\nd: \"data:;base64,AAA\"\ne: \"{}\"\n",
            STANDARD.encode(key),
            data_url(&format!("token={token}\nkey={}", STANDARD.encode(key))),
            data_url("nothing")
        );
        let mut config = Config { files: vec![ConfigFile { name: "f".into(), contents, mode: 0 }] };
        redact(&mut config, &[token, key, ""], "WORD");
        let expected = format!(
            "a: WORD\nb: \"WORD\"\nc: \"{}\"\nd: \"data:;base64,AAA\"\ne: \"{}\"\n",
            data_url("token=WORD\nkey=WORD"),
            data_url("nothing")
        );
        assert_eq!(config.files[0].contents, expected);
    }
}
