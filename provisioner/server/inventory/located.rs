//! Where each value of a YAML document stands: the same document read a second time for its places only.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use std::fmt;

/// A value's line and column (from 1) and those of what is in it.
#[derive(Debug, Default)]
pub(crate) struct Located {
    line: u64,
    column: u64,
    inside: Inside,
}

#[derive(Debug, Default)]
enum Inside {
    #[default]
    Nothing,
    Map(Vec<(String, Located)>),
    List(Vec<Located>),
}

impl Located {
    /// Line and column of what `pointer` (RFC 6901, without escapes) names, or of the nearest value around it.
    pub(crate) fn find(&self, pointer: &str) -> (u64, u64) {
        let mut here = self;
        for part in pointer.split('/').skip(1) {
            let next = match &here.inside {
                Inside::Map(entries) => entries.iter().find(|(key, _)| key == part).map(|(_, value)| value),
                Inside::List(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
                Inside::Nothing => None,
            };
            match next {
                Some(value) => here = value,
                None => break,
            }
        }
        (here.line, here.column)
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Inside>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), column: referenced.column(), inside: value })
    }
}

impl<'de> Deserialize<'de> for Inside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

/// All scalars are [`Inside::Nothing`].
macro_rules! nothing {
    ($($name:ident: $type:ty),*) => {
        $(fn $name<E: de::Error>(self, _: $type) -> Result<Inside, E> {
            Ok(Inside::Nothing)
        })*
    };
}

impl<'de> de::Visitor<'de> for Reader {
    type Value = Inside;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E: de::Error>(self) -> Result<Inside, E> {
        Ok(Inside::Nothing)
    }

    fn visit_none<E: de::Error>(self) -> Result<Inside, E> {
        Ok(Inside::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inside, D::Error> {
        Inside::deserialize(deserializer)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Inside, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Inside::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Inside, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Inside::Map(entries))
    }
}
