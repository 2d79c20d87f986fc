//! What several false copies of one piece say about who gave their blocks.
//!
//! Invariant: this only decides whom the next copy is asked of. Nobody is banned for what is found here, since those who lie
//! together could make others look false; that takes a copy that checks.

use std::collections::{BTreeMap, BTreeSet};

use super::board::Giver;
use crate::units::LinkId;

/// A block of a copy: who gave it, and a sum of its bytes.
pub type Block = (Option<Giver>, u64);
/// A copy of a piece that failed.
pub type Copy = Vec<Block>;

/// How the next copy is made of the last one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// By block, who may not give it.
    pub barred: Vec<Vec<LinkId>>,
    /// By block, whether it is kept.
    pub keep: Vec<bool>,
}

pub fn link_of(giver: Option<Giver>) -> Option<LinkId> {
    match giver {
        Some(Giver::Link(link)) => Some(link),
        _ => None,
    }
}

/// The second copy is made without these.
pub fn without(first: &[Option<Giver>], barred: &[LinkId]) -> Plan {
    let keep = first.iter().map(|g| !link_of(*g).is_some_and(|l| barred.contains(&l))).collect();
    Plan { barred: vec![barred.to_vec(); first.len()], keep }
}

/// What is to be made of these copies, in the order in which they failed: two at least.
pub fn weigh(copies: &[&Copy]) -> Plan {
    let Some(last) = copies.last() else { return Plan::default() };
    let of = |i: usize| copies.iter().filter_map(move |c| c.get(i));
    // What two gave alike who do not know of each other is true, and who gave something else lied.
    let alike = |i: usize| of(i).find(|a| of(i).any(|b| a.1 == b.1 && a.0 != b.0)).map(|a| a.1);
    let truth: Vec<Option<u64>> = (0..last.len()).map(alike).collect();
    let mut liars = BTreeSet::new();
    for (i, truth) in truth.iter().enumerate() {
        liars.extend(of(i).filter(|b| truth.is_some_and(|t| b.1 != t)).filter_map(|b| link_of(b.0)));
    }
    let givers = |i: usize| of(i).filter_map(|b| link_of(b.0)).collect::<BTreeSet<LinkId>>();
    let sure: Vec<bool> = truth.iter().zip(last.iter()).map(|(t, b)| *t == Some(b.1)).collect();
    if copies.len() > 2 {
        let barred = |(i, sure): (usize, &bool)| {
            if *sure { Vec::new() } else { liars.iter().copied().chain(givers(i)).collect() }
        };
        return Plan { barred: sure.iter().enumerate().map(barred).collect(), keep: sure };
    }
    let open: Vec<usize> = (0..last.len()).filter(|i| !sure.get(*i).is_some_and(|s| *s)).collect();
    let differs = |i: &&usize| of(**i).any(|a| of(**i).any(|b| a.1 != b.1));
    let accused = explain(liars, open.iter().filter(differs).map(|i| givers(*i)).collect());
    let giver = |i: usize| last.get(i).and_then(|b| link_of(b.0));
    let mut void: Vec<usize> =
        open.iter().copied().filter(|i| giver(*i).is_some_and(|l| accused.contains(&l))).collect();
    let mut barred = accused;
    if void.is_empty() {
        // The accused have no part in this copy: it was somebody else, whose blocks nobody else gave.
        barred.extend(open.iter().filter_map(|i| giver(*i)));
        void = open;
    }
    let keep = (0..last.len()).map(|i| !void.contains(&i)).collect();
    Plan { barred: vec![barred.into_iter().collect(); last.len()], keep }
}

/// The fewest that explain all differences, beside those who lied for sure: who differs from most goes first, and two who differ
/// from nobody else both go.
fn explain(mut accused: BTreeSet<LinkId>, mut pairs: Vec<BTreeSet<LinkId>>) -> BTreeSet<LinkId> {
    loop {
        pairs.retain(|p| !p.is_empty() && p.is_disjoint(&accused));
        let mut counts: BTreeMap<LinkId, usize> = BTreeMap::new();
        pairs.iter().flatten().for_each(|l| *counts.entry(*l).or_default() += 1);
        let Some(most) = counts.values().copied().max() else { return accused };
        accused.extend(counts.into_iter().filter(|c| c.1 == most).map(|c| c.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy as a picture: each letter is who gave the block, in capitals where it is false.
    fn copy(picture: &str) -> Copy {
        let block = |(i, c): (usize, char)| {
            let id = c.to_ascii_lowercase() as u32 - 'a' as u32;
            let sum = i as u64 + if c.is_ascii_uppercase() { 1000 * (u64::from(id) + 1) } else { 0 };
            (Some(Giver::Link(LinkId(id))), sum)
        };
        picture.chars().enumerate().map(block).collect()
    }

    /// What is kept as `x`, and who is barred from the rest.
    fn made_of(copies: &[&str]) -> (String, String) {
        let copies: Vec<Copy> = copies.iter().map(|c| copy(c)).collect();
        let plan = weigh(&copies.iter().collect::<Vec<_>>());
        let keep = plan.keep.iter().map(|k| if *k { 'x' } else { '.' }).collect();
        let open = plan.barred.iter().zip(&plan.keep).filter(|(_, k)| !**k).flat_map(|(b, _)| b);
        let barred: BTreeSet<char> = open.map(|l| (b'a' + l.0 as u8) as char).collect();
        (keep, barred.into_iter().collect())
    }

    fn says(keep: &str, barred: &str) -> (String, String) {
        (keep.into(), barred.into())
    }

    #[test]
    fn the_second_copy_keeps_what_the_others_gave() {
        let first: Vec<Option<Giver>> = copy("aabbcc").iter().map(|b| b.0).collect();
        let plan = without(&first, &[LinkId(1)]);
        assert_eq!(plan.keep, [true, true, false, false, true, true]);
        assert!(plan.barred.iter().all(|b| *b == [LinkId(1)]));
    }

    #[test]
    fn who_differs_from_two_is_accused_and_not_they() {
        // c and d were replaced by a, who lies, and b.
        assert_eq!(made_of(&["AAbbccdd", "AAbbAbbA"]), says("..xx.xx.", "a"));
    }

    #[test]
    fn where_all_is_alike_it_was_what_was_kept() {
        assert_eq!(made_of(&["AAbbcc", "AAbbbb"]), says("....xx", "ab"));
    }

    #[test]
    fn one_that_differs_from_several_explains_it() {
        assert_eq!(made_of(&["AAbbccdd", "bcAAAAAA"]), says("xx......", "a"));
    }

    #[test]
    fn later_only_what_two_gave_alike_is_kept_and_nobody_gives_a_block_twice() {
        assert_eq!(made_of(&["aabB", "Ccaa", "bCCc"]), says("x..x", "abc"));
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(weigh(&[]), Plan::default());
    }
}
