//! PURE. What is on the disk, and what goes when there is too much: the least recently used.

use provisioner_wire::chunks::Sha;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug)]
pub(super) struct Index {
    limit: u64,
    bytes: u64,
    /// Size, and when it was used last.
    pieces: HashMap<Sha, (u64, u64)>,
    by_use: BTreeMap<u64, Sha>,
    uses: u64,
}

impl Index {
    /// Holds at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, bytes: 0, pieces: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The size of a piece that is there, which is used now.
    pub(super) fn touch(&mut self, piece: &Sha) -> Option<u64> {
        self.uses += 1;
        let (size, last) = self.pieces.get_mut(piece)?;
        self.by_use.remove(last);
        *last = self.uses;
        self.by_use.insert(*last, *piece);
        Some(*size)
    }

    pub(super) fn remove(&mut self, piece: &Sha) {
        if let Some((size, last)) = self.pieces.remove(piece) {
            self.by_use.remove(&last);
            self.bytes -= size;
        }
    }

    /// Takes up a piece that is used now; those that must go for it.
    pub(super) fn put(&mut self, piece: Sha, size: u64) -> Vec<Sha> {
        self.remove(&piece);
        let mut gone = Vec::new();
        while self.bytes.saturating_add(size) > self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.bytes -= self.pieces.remove(&oldest).map_or(0, |(size, _)| size);
            gone.push(oldest);
        }
        self.uses += 1;
        self.pieces.insert(piece, (size, self.uses));
        self.by_use.insert(self.uses, piece);
        self.bytes += size;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_never_over_its_limit_and_keeps_what_was_used(
            acts in proptest::collection::vec((0u8..20, 1u64..100, any::<bool>()), 0..200),
        ) {
            let mut index = Index::new(300);
            let mut order: Vec<(u8, u64)> = Vec::new();
            for (n, size, put) in acts {
                let piece = Sha([n; 32]);
                let known = order.iter().position(|(m, _)| *m == n).map(|at| order.remove(at));
                if put {
                    let gone = index.put(piece, size);
                    order.push((n, size));
                    let mut expected = Vec::new();
                    while order.iter().map(|(_, s)| s).sum::<u64>() > 300 {
                        expected.push(Sha([order.remove(0).0; 32]));
                    }
                    prop_assert_eq!(gone, expected);
                } else {
                    prop_assert_eq!(index.touch(&piece), known.map(|(_, size)| size));
                    order.extend(known);
                }
                prop_assert!(index.bytes() <= 300);
                prop_assert_eq!(index.bytes(), order.iter().map(|(_, s)| s).sum::<u64>());
                prop_assert_eq!(index.len(), order.len());
            }
        }
    }
}
