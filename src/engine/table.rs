//! The links of one engine, lowest number first, and small sets of them.
//!
//! Every event looks a link up and every pass walks all of them, in a world of thousands of engines out of cold memory each
//! time: numbers lie together, apart from the links, and the links one after the other.
//!
//! Invariant: both lists are of the same length and in the same order, `ids` strictly rising.

use super::links::Link;
use crate::units::LinkId;

/// All links, by number.
#[derive(Debug, Clone, Default)]
pub struct Links {
    ids: Vec<LinkId>,
    all: Vec<Link>,
}

impl Links {
    /// Adds a link, in place of another of the same number. A new one has the highest number there is: nothing moves.
    pub fn insert(&mut self, link: Link) {
        match self.ids.binary_search(&link.id) {
            Ok(i) => {
                if let Some(old) = self.all.get_mut(i) {
                    *old = link;
                }
            }
            Err(i) => {
                self.ids.insert(i, link.id);
                self.all.insert(i, link);
            }
        }
    }

    /// Takes a link out.
    pub fn remove(&mut self, id: &LinkId) -> Option<Link> {
        let i = self.ids.binary_search(id).ok()?;
        self.ids.remove(i);
        (i < self.all.len()).then(|| self.all.remove(i))
    }

    /// The link of that number.
    pub fn get(&self, id: &LinkId) -> Option<&Link> {
        self.all.get(self.ids.binary_search(id).ok()?)
    }

    /// The link of that number, to be changed.
    pub fn get_mut(&mut self, id: &LinkId) -> Option<&mut Link> {
        self.all.get_mut(self.ids.binary_search(id).ok()?)
    }

    /// Their numbers.
    pub fn keys(&self) -> impl Iterator<Item = &LinkId> {
        self.ids.iter()
    }

    /// All of them.
    pub fn values(&self) -> std::slice::Iter<'_, Link> {
        self.all.iter()
    }

    /// All of them, to be changed.
    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, Link> {
        self.all.iter_mut()
    }
}

/// A few links' numbers, rising: made and emptied by the thousand, so it keeps its memory.
#[derive(Debug, Clone, Default)]
pub struct LinkSet(Vec<LinkId>);

impl LinkSet {
    pub fn insert(&mut self, id: LinkId) {
        if let Err(i) = self.0.binary_search(&id) {
            self.0.insert(i, id);
        }
    }

    pub fn contains(&self, id: LinkId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Drops those that `keep` does not keep.
    pub fn retain(&mut self, keep: impl FnMut(&LinkId) -> bool) {
        self.0.retain(keep);
    }

    pub fn iter(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Instant;

    #[test]
    fn links_are_found_by_number_and_walked_in_order() {
        let mut links = Links::default();
        for id in [3, 9, 1, 5, 9] {
            links.insert(Link::new(LinkId(id), 8, None, Instant::ZERO));
        }
        let order = |links: &Links| links.values().map(|l| l.id.0).collect::<Vec<_>>();
        assert_eq!(order(&links), [1, 3, 5, 9]);
        assert_eq!(links.remove(&LinkId(3)).map(|l| l.id), Some(LinkId(3)));
        assert!(links.remove(&LinkId(3)).is_none() && links.get(&LinkId(4)).is_none());
        assert_eq!(links.get_mut(&LinkId(5)).map(|l| l.id), Some(LinkId(5)));
        assert_eq!(order(&links), links.keys().map(|k| k.0).collect::<Vec<_>>());
    }

    #[test]
    fn a_set_holds_each_once_in_order() {
        let mut set = LinkSet::default();
        [4, 2, 4, 7].into_iter().for_each(|i| set.insert(LinkId(i)));
        set.retain(|l| l.0 != 7);
        assert_eq!(set.iter().map(|l| l.0).collect::<Vec<_>>(), [2, 4]);
        assert!(set.contains(LinkId(2)) && !set.contains(LinkId(7)));
        set.clear();
        assert!(set.is_empty());
    }
}
