//! PURE. What an issuer gives for one machine: its token, and further secret texts by name.

use super::{HashedToken, PlainToken, builtin};
use crate::machine::Time;
use std::collections::BTreeMap;

/// Secret texts by name, for `issued.NAME` in a template. `Debug` shows the names only.
#[derive(Clone, Default)]
pub struct Issued(BTreeMap<&'static str, PlainToken>);

impl Issued {
    pub fn put(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.insert(name, PlainToken::new(text));
    }

    /// Names and texts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, text)| (*name, text.reveal()))
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// All that was minted for one claim. Only hash and expiry may be stored.
#[derive(Debug)]
pub struct Grant {
    pub token: PlainToken,
    pub hash: HashedToken,
    pub expires: Time,
    pub issued: Issued,
}

impl From<PlainToken> for Grant {
    /// A token and nothing else, which is not kept anywhere.
    fn from(token: PlainToken) -> Self {
        Self { hash: token.hash(), token, expires: Time(0), issued: Issued::default() }
    }
}

impl Grant {
    /// Opens nothing; for rendering without delivering. `names` are those that the real one will have.
    pub fn dummy(names: &[&'static str]) -> Self {
        let token = builtin::dummy();
        let mut issued = Issued::default();
        for name in names {
            // Valid base64, and in the form of a token where one is expected.
            let text = if name.ends_with("token") { token.reveal() } else { "ZHJ5cnVuZHJ5cnVu" };
            issued.put(name, text);
        }
        Self { hash: token.hash(), token, expires: Time(0), issued }
    }

    /// Every secret text in it, longest first, so that one which holds another is hidden whole.
    pub fn secrets(&self) -> Vec<&str> {
        let mut all: Vec<&str> =
            self.issued.iter().map(|(_, text)| text).chain([self.token.reveal()]).collect();
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        all
    }
}
