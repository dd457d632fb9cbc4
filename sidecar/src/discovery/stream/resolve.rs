//! What of a push can be used: all that is told must go together with all that is held. What cannot is found out by
//! taking it away until the rest is good.

use std::{collections::BTreeMap, fmt::Write};

use trama_proto::{
    Problem, Problems,
    discovery::{problem_text, v1::Refusal},
    document::ResourceId,
};

use super::held::{Resources, Version, Wish, Wishes, resource_name};
use crate::config::snapshot::Snapshot;

/// The most policies that are compiled for one push. With the last but one everything that is still open is refused: a
/// push that is wrong in so many ways must not keep a sidecar busy.
const MOST_COMPILED: usize = 64;
/// Of so few that were refused together each is tried again by itself.
const FEW: usize = 8;

/// What is wrong with resources, by resource.
pub(super) type Refusals = BTreeMap<ResourceId, Refusal>;

/// What can be used of what was told.
#[derive(Debug)]
pub(super) struct Resolved {
    /// What is in use now.
    pub(super) resources: Resources,
    /// What cannot be used.
    pub(super) waiting: Wishes,
    /// Why: each that waits, and each in use that would be bad if it did not.
    pub(super) refused: Refusals,
    /// The policy in force. `None` where not even what was held before makes one.
    pub(super) snapshot: Option<Snapshot>,
    /// All that is wrong, by what is refused for it.
    pub(super) problems: Vec<(ResourceId, Problem)>,
}

/// Puts what was `pushed` in use, beside what is `held`, and what `waiting` can be used now. `compile` makes a policy of
/// what is in use and what is left out of it.
pub(super) fn resolve(
    held: &Resources,
    pushed: Wishes,
    waiting: Wishes,
    compile: impl FnMut(&Resources, &Wishes) -> Result<Snapshot, Problems>,
) -> Resolved {
    let mut trial = Trial {
        base: held.clone(),
        open: Wishes::new(),
        closed: Wishes::new(),
        refused: Refusals::new(),
        problems: Vec::new(),
        left: MOST_COMPILED,
        compile,
    };
    for (id, wish) in waiting.iter().chain(&pushed) {
        trial.add(id, wish);
    }
    let problems = match trial.compiled(trial.open.len()) {
        Ok(snapshot) => return trial.end(Some(snapshot)),
        Err(problems) => problems,
    };
    // What waits may still be as bad as it was, and then it must not be what was pushed that is blamed.
    if trial.open.keys().any(|id| waiting.contains_key(id))
        && let Some(snapshot) = trial.settle(&pushed)
    {
        return trial.narrow(problems, Some(snapshot));
    }
    trial.narrow(problems, None)
}

/// Why a resource or its end is refused. Without a path the problem is another resource's, or none's.
struct Reason<'a> {
    version: Option<&'a Version>,
    path: &'a str,
    problem: &'a Problem,
    more: usize,
}

struct Trial<F> {
    base: Resources,
    /// What may still be used.
    open: Wishes,
    closed: Wishes,
    refused: Refusals,
    problems: Vec<(ResourceId, Problem)>,
    left: usize,
    compile: F,
}

impl<F: FnMut(&Resources, &Wishes) -> Result<Snapshot, Problems>> Trial<F> {
    fn add(&mut self, id: &ResourceId, wish: &Wish) {
        if let Wish::Unreadable { version, problems, .. } = wish
            && let Some(first) = problems.first()
        {
            let reason = Reason {
                version: Some(version),
                path: &first.field,
                problem: first,
                more: problems.len() - 1,
            };
            self.refused.insert(id.clone(), refusal(id, &reason));
            self.problems.extend(problems.iter().map(|problem| (id.clone(), problem.clone())));
            self.closed.insert(id.clone(), wish.clone());
        } else {
            self.open.insert(id.clone(), wish.clone());
        }
    }

    /// What is held with the first `take` of what is open.
    fn with(&self, take: usize) -> (Resources, Wishes) {
        let (mut resources, mut out) = (self.base.clone(), self.closed.clone());
        for (at, (id, wish)) in self.open.iter().enumerate() {
            match wish {
                _ if at >= take => drop(out.insert(id.clone(), wish.clone())),
                Wish::Put(held) => drop(resources.insert(id.clone(), held.clone())),
                Wish::End => drop(resources.remove(id)),
                Wish::Unreadable { .. } => {}
            }
        }
        (resources, out)
    }

    fn compiled(&mut self, take: usize) -> Result<Snapshot, Problems> {
        self.left = self.left.saturating_sub(1);
        let (resources, out) = self.with(take);
        (self.compile)(&resources, &out)
    }

    /// Puts what was pushed in use for good, if that alone is good.
    fn settle(&mut self, pushed: &Wishes) -> Option<Snapshot> {
        let (alone, later): (Wishes, Wishes) =
            std::mem::take(&mut self.open).into_iter().partition(|(id, _)| pushed.contains_key(id));
        let all = self.closed.clone();
        self.closed.extend(later.clone());
        self.open = alone;
        let compiled = self.compiled(self.open.len()).ok();
        self.closed = all;
        if compiled.is_some() {
            self.base = self.with(self.open.len()).0;
            self.open = later;
        } else {
            self.open.extend(later);
        }
        compiled
    }

    /// Refuses one after the other until what is left is good. `good`: what nothing of it makes.
    fn narrow(mut self, mut problems: Problems, good: Option<Snapshot>) -> Resolved {
        let mut rounds = Vec::new();
        loop {
            rounds.push(self.refuse(&problems));
            if self.open.is_empty()
                && let Some(good) = good
            {
                return self.end(Some(good));
            }
            match self.compiled(self.open.len()) {
                Ok(snapshot) => return self.reconsider(rounds, snapshot),
                Err(_) if self.open.is_empty() => return self.end(None),
                Err(still) => problems = still,
            }
        }
    }

    /// Refuses what the problems are about. Where that is nothing but what is held, it refuses what has made that bad.
    fn refuse(&mut self, problems: &Problems) -> Vec<ResourceId> {
        let of = |id: &ResourceId| {
            let id = id.to_string();
            problems.0.iter().filter(move |problem| problem.resource == id)
        };
        let put = |(id, wish): (&ResourceId, &Wish)| matches!(wish, Wish::Put(_)).then(|| id.clone());
        let named: Vec<_> = self.open.iter().filter_map(put).filter(|id| of(id).next().is_some()).collect();
        for id in &named {
            let first = of(id).next();
            first.into_iter().for_each(|first| self.close(id, first, &first.field, of(id).count() - 1));
            self.problems.extend(of(id).map(|problem| (id.clone(), problem.clone())));
        }
        let Some(first) = problems.0.first().filter(|_| named.is_empty() || self.left <= 1) else {
            return named;
        };
        let guilty = self.breaker(first);
        for id in &guilty {
            self.close(id, first, "", 0);
            self.problems.push((id.clone(), first.clone()));
        }
        let broken = self.base.iter().find(|(id, _)| id.to_string() == first.resource);
        // One of which a later version is refused is named for that.
        if let Some((id, held)) = broken.filter(|(id, _)| !self.closed.contains_key(*id)) {
            let reason = Reason { version: Some(&held.version), path: &first.field, problem: first, more: 0 };
            self.refused.insert(id.clone(), refusal(id, &reason));
        }
        guilty
    }

    /// What of all that is open has made something bad that is held: of those in order the first with which it is so.
    fn breaker(&mut self, problem: &Problem) -> Vec<ResourceId> {
        let (mut good, mut bad) = (0, self.open.len());
        let same = |it: &Problem| {
            (&it.resource, &it.field, &it.problem) == (&problem.resource, &problem.field, &problem.problem)
        };
        while bad - good > 1 {
            if self.left <= 2 {
                return self.open.keys().cloned().collect();
            }
            let middle = good + (bad - good) / 2;
            match self.compiled(middle) {
                Err(problems) if problems.0.iter().any(same) => bad = middle,
                _ => good = middle,
            }
        }
        self.open.keys().nth(good).cloned().into_iter().collect()
    }

    fn close(&mut self, id: &ResourceId, problem: &Problem, path: &str, more: usize) {
        let Some(wish) = self.open.remove(id) else { return };
        let reason = Reason { version: wish.version(), path, problem, more };
        self.refused.insert(id.clone(), refusal(id, &reason));
        self.closed.insert(id.clone(), wish);
    }

    /// Of two that contradict each other either may be named. What was refused before the last one that was guilty may be
    /// innocent.
    fn reconsider(mut self, mut rounds: Vec<Vec<ResourceId>>, mut snapshot: Snapshot) -> Resolved {
        rounds.pop();
        for round in rounds {
            let alone: Vec<_> = match round.len() {
                2..=FEW => round.iter().map(|id| vec![id.clone()]).collect(),
                _ => Vec::new(),
            };
            for some in std::iter::once(round).chain(alone) {
                snapshot = self.readmit(&some).unwrap_or(snapshot);
            }
        }
        self.end(Some(snapshot))
    }

    /// Takes back what was refused, if it is good now.
    fn readmit(&mut self, some: &[ResourceId]) -> Option<Snapshot> {
        let some: Wishes = some.iter().filter_map(|id| self.closed.remove_entry(id)).collect();
        if some.is_empty() || self.left == 0 {
            self.closed.extend(some);
            return None;
        }
        self.open.extend(some.clone());
        let compiled = self.compiled(self.open.len()).ok();
        if compiled.is_some() {
            self.refused.retain(|id, _| !some.contains_key(id));
        } else {
            self.open.retain(|id, _| !some.contains_key(id));
            self.closed.extend(some);
        }
        compiled
    }

    fn end(mut self, snapshot: Option<Snapshot>) -> Resolved {
        let (resources, waiting) = self.with(self.open.len());
        // What is in use is named only for the sake of what waits.
        if waiting.is_empty() {
            self.refused.clear();
        }
        Resolved { resources, waiting, refused: self.refused, snapshot, problems: self.problems }
    }
}

fn refusal(id: &ResourceId, reason: &Reason<'_>) -> Refusal {
    let Reason { version, path, problem, more } = reason;
    let mut text = String::new();
    if path.is_empty() && !problem.field.is_empty() {
        write!(text, "{}: {}: ", problem.resource, problem.field).ok();
    }
    text.push_str(&problem.problem);
    if !problem.value.is_empty() {
        write!(text, ", got {}", problem.value).ok();
    }
    write!(text, "; {}", problem.remedy).ok();
    let behind = if *more > 0 { format!(" (and {more} more)") } else { String::new() };
    Refusal {
        name: Some(resource_name(id)),
        version: version.map_or(0, |version| version.number),
        path: (*path).to_owned(),
        problem: problem_text(text, &behind),
        hash: version.map_or_else(Vec::new, |version| version.hash.to_vec()),
    }
}
