//! A metric's series: which label sets there are, and who counts under them.
//!
//! A [`Family`] is one per process, a [`Shard`] is one per worker. A worker asks the family, under its lock, only when
//! it meets a label set for the first time; from then on it counts in a series of its own. The number of label sets is
//! bounded over all workers: what comes after the last one is counted under `overflow`.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Label sets per metric; further ones are counted together.
pub(crate) const MAX_LABEL_SETS: usize = 2_000;

/// The value of every label of the series that takes what is over the bound.
pub(crate) const OVERFLOW: &str = "overflow";

/// A closed set of labels.
pub(crate) trait Labels: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// The names, in the order of the values.
    const NAMES: &'static [&'static str];
    /// The values.
    fn values(&self) -> Vec<Cow<'_, str>>;
}

type Hasher = foldhash::fast::RandomState;

/// The label sets of one metric and the workers' series under each.
#[derive(Debug)]
pub(crate) struct Family<L, S> {
    open: Mutex<HashMap<L, Vec<Arc<S>>, Hasher>>,
    overflow: Mutex<Vec<Arc<S>>>,
    // Set once the bound is reached, so that a flood of new label sets does not make workers wait for each other.
    full: OnceLock<HashSet<L, Hasher>>,
}

impl<L, S> Default for Family<L, S> {
    fn default() -> Self {
        Self { open: Mutex::default(), overflow: Mutex::default(), full: OnceLock::new() }
    }
}

impl<L: Labels, S: Default> Family<L, S> {
    /// What one worker needs to count.
    pub(crate) fn shard(self: &Arc<Self>) -> Shard<L, S> {
        let overflow = Arc::default();
        self.overflow.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&overflow));
        Shard { family: Arc::clone(self), known: RefCell::default(), overflow }
    }

    /// All label sets with their series; `None` is the overflow. The lock is not held while the caller formats.
    pub(crate) fn read(&self) -> Vec<(Option<L>, Vec<Arc<S>>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<_> = open.iter().map(|(l, s)| (Some(l.clone()), s.clone())).collect();
        drop(open);
        if self.full.get().is_some() {
            rows.push((None, self.overflow.lock().unwrap_or_else(PoisonError::into_inner).clone()));
        }
        rows
    }

    fn admit(&self, labels: &L) -> Option<Arc<S>> {
        if self.full.get().is_some_and(|full| !full.contains(labels)) {
            return None;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_LABEL_SETS && !open.contains_key(labels) {
            self.full.get_or_init(|| open.keys().cloned().collect());
            return None;
        }
        let series = Arc::default();
        open.entry(labels.clone()).or_default().push(Arc::clone(&series));
        Some(series)
    }
}

/// One worker's series of a metric. Not `Sync`: its series have one writer.
#[derive(Debug)]
pub(crate) struct Shard<L, S> {
    family: Arc<Family<L, S>>,
    known: RefCell<HashMap<L, Arc<S>, Hasher>>,
    overflow: Arc<S>,
}

impl<L: Labels, S: Default> Shard<L, S> {
    /// This worker's series for the labels, or its overflow.
    pub(crate) fn series(&self, labels: &L) -> Arc<S> {
        self.admitted(labels).unwrap_or_else(|| Arc::clone(&self.overflow))
    }

    /// This worker's series for the labels, if there is room for them.
    pub(crate) fn admitted(&self, labels: &L) -> Option<Arc<S>> {
        if let Some(series) = self.known.borrow().get(labels) {
            return Some(Arc::clone(series));
        }
        let series = self.family.admit(labels)?;
        self.known.borrow_mut().insert(labels.clone(), Arc::clone(&series));
        Some(series)
    }

    /// The series for what is over the bound.
    pub(crate) fn overflow(&self) -> &Arc<S> {
        &self.overflow
    }
}

#[cfg(test)]
mod tests {
    use super::{super::series::Counter, *};

    #[derive(Clone, Debug, Eq, Hash, PartialEq)]
    struct Number(usize);

    impl Labels for Number {
        const NAMES: &'static [&'static str] = &["number"];
        fn values(&self) -> Vec<Cow<'_, str>> {
            vec![self.0.to_string().into()]
        }
    }

    fn total(family: &Family<Number, Counter>, wanted: Option<&Number>) -> u64 {
        let rows = family.read();
        let row = rows.iter().find(|(labels, _)| labels.as_ref() == wanted);
        row.map_or(0, |(_, series)| series.iter().map(|s| s.get()).sum())
    }

    #[test]
    fn the_workers_counts_are_summed_per_label_set() {
        let family = Arc::new(Family::<Number, Counter>::default());
        let (one, two) = (family.shard(), family.shard());
        one.series(&Number(1)).add(2);
        two.series(&Number(1)).add(3);
        two.series(&Number(2)).add(7);
        assert_eq!(total(&family, Some(&Number(1))), 5);
        assert_eq!(total(&family, Some(&Number(2))), 7);
        assert_eq!(family.read().len(), 2, "nothing overflowed, so there is no such series");
    }

    #[test]
    fn beyond_the_bound_all_workers_count_in_one_overflow() {
        let family = Arc::new(Family::<Number, Counter>::default());
        let (one, two) = (family.shard(), family.shard());
        for number in 0..MAX_LABEL_SETS + 10 {
            one.series(&Number(number)).add(1);
        }
        for number in 0..MAX_LABEL_SETS + 5 {
            two.series(&Number(number)).add(1);
        }
        assert_eq!(family.read().len(), MAX_LABEL_SETS + 1);
        assert_eq!(total(&family, None), 15);
        assert_eq!(total(&family, Some(&Number(MAX_LABEL_SETS - 1))), 2);
    }
}
