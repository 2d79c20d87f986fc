//! A set of byte ranges: what the reader may have.

use std::collections::BTreeMap;

use crate::units::ByteRange;

/// Disjoint ranges that do not touch, by start.
#[derive(Debug, Clone, Default)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range, merging what it meets.
    pub fn insert(&mut self, r: ByteRange) {
        if r.is_empty() {
            return;
        }
        let (mut start, mut end) = (r.start, r.end);
        while let Some((&s, &e)) = self.0.range(..=end).next_back() {
            if e < start {
                break;
            }
            start = start.min(s);
            end = end.max(e);
            self.0.remove(&s);
        }
        self.0.insert(start, end);
    }

    /// Takes a range out.
    pub fn remove(&mut self, r: ByteRange) {
        if r.is_empty() {
            return;
        }
        while let Some((&s, &e)) = self.0.range(..r.end).next_back() {
            if e <= r.start {
                break;
            }
            self.0.remove(&s);
            if e > r.end {
                self.0.insert(r.end, e);
            }
            if s < r.start {
                self.0.insert(s, r.start);
            }
        }
    }

    /// The end of the run that holds `offset`; `offset` itself when it is in none.
    pub fn run_end(&self, offset: u64) -> u64 {
        self.0.range(..=offset).next_back().map_or(offset, |(_, e)| (*e).max(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_set_it_says(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..16), 0..60)) {
            let (mut set, mut bits) = (RangeSet::default(), [false; 96]);
            for (add, start, len) in steps {
                let r = ByteRange::new(start, start + len);
                if add { set.insert(r) } else { set.remove(r) }
                bits[start as usize..(start + len) as usize].fill(add);
                for at in 0..80u64 {
                    let end = (at..96).find(|i| !bits[*i as usize]).unwrap_or(96);
                    prop_assert_eq!(set.run_end(at), end);
                }
            }
        }
    }
}
