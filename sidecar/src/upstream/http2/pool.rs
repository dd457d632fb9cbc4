//! The connections to one HTTP/2 upstream, and which of them a request takes.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::connection::{Connection, open, unsent};
use crate::{
    error::{Failure, Reason},
    upstream::{
        limits::UpstreamLimits,
        places::{Look, Place, Places},
        way::{WaitsFor, Way},
    },
};

/// The connections of one upstream.
#[derive(Default)]
pub(in crate::upstream) struct Http2Pool {
    connections: Vec<Rc<Connection>>,
    connecting: bool,
    places: Rc<Places>,
}

impl Http2Pool {
    /// Closes what idled or aged; says whether anything is left.
    pub(in crate::upstream) fn sweep(&mut self, now: Instant, limits: &UpstreamLimits) -> bool {
        // Who waits for a stream of such a connection would wait for those that it has.
        for connection in self.connections.iter().filter(|c| c.is_usable() && c.refusal().is_some()) {
            connection.retired.set(true);
            self.places.call_next();
        }
        self.connections.retain(|c| {
            if c.life.active.get() > 0 {
                c.last_used.set(now);
                return !c.life.closed.get();
            }
            let idle = now.duration_since(c.last_used.get()) >= limits.idle_timeout;
            c.is_usable() && !idle && !c.age.is_over(now)
        });
        self.places.open() > 0 || self.places.waiting() > 0
    }

    pub(in crate::upstream) fn open(&self) -> usize {
        self.places.open()
    }

    pub(super) const fn places(&self) -> &Rc<Places> {
        &self.places
    }

    /// The first connection with room, unless others wait for one already.
    fn checkout(&self, now: Instant) -> Option<Rc<Connection>> {
        if self.places.waiting() > 0 { None } else { self.roomy(now) }
    }

    fn roomy(&self, now: Instant) -> Option<Rc<Connection>> {
        self.connections.iter().find(|c| c.has_room(now)).map(Rc::clone)
    }

    /// The least busy connection that still has a stream; one that is too old only where no other has.
    fn spare(&self, now: Instant) -> Option<Rc<Connection>> {
        let spare = self.connections.iter().filter(|c| c.has_stream());
        spare.min_by_key(|c| (c.age.is_over(now), c.life.active.get())).map(Rc::clone)
    }

    fn is_usable(&self) -> bool {
        self.connections.iter().any(|c| c.is_usable())
    }

    /// Why there is nothing for a request that began then: a connection was made since, and has ended in vain. Another one for
    /// the same request would as well, as fast and as often as it is made.
    fn broken_since(&self, began: Instant) -> Option<Failure> {
        if self.is_usable() || self.connecting {
            return None;
        }
        let broken = self.connections.iter().find(|c| c.made >= began && c.ended_in_vain());
        broken.map(|connection| connection.unsent())
    }

    /// Whether there soon is more room: a connection is being made, or its peer is about to say how many streams it takes.
    fn is_opening(&self) -> bool {
        self.connecting || self.connections.iter().any(|c| c.is_usable() && !c.spoken.get())
    }

    fn finish_connecting(&mut self, result: Result<&Rc<Connection>, Failure>) {
        self.connecting = false;
        match result {
            Ok(connection) => {
                self.connections.retain(|c| !c.life.closed.get());
                self.connections.push(Rc::clone(connection));
                if connection.spoken.get() {
                    self.places.call_all(None);
                } else {
                    self.places.call_next();
                }
            }
            // Who waits for a stream of another connection still may get one.
            Err(_) if self.is_usable() => {}
            Err(failure) => self.places.call_all(Some(&failure)),
        }
    }
}

/// A connection that takes another stream. One that does not is left, as often as it takes: nothing was sent on it. Only
/// what was opened for this request, and says no at once, ends the search.
pub(super) async fn ready(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>) -> Result<Rc<Connection>, Failure> {
    let began = Instant::now();
    loop {
        let pooled = pool.borrow().checkout(Instant::now());
        let connection = match pooled {
            Some(connection) => connection,
            // Boxed: most requests find a connection.
            None => Box::pin(find(pool, way, began)).await?,
        };
        let Some(error) = connection.refusal() else { return Ok(connection) };
        connection.retired.set(true);
        let pool = pool.borrow();
        pool.places.call_next();
        let failure = unsent(&error);
        // A next one would refuse our certificate as well.
        if connection.made >= began || failure.reason == Reason::TlsFailed {
            return Err(failure);
        }
    }
}

/// A connection to send on, opened if need be; requests that come meanwhile wait for the same one.
async fn find(
    pool: &Rc<RefCell<Http2Pool>>,
    way: &Way<'_>,
    began: Instant,
) -> Result<Rc<Connection>, Failure> {
    let places = Rc::clone(&pool.borrow().places);
    // Longer than it takes to connect, which tells by itself why it failed.
    let patience = way.limits().connect_timeout.saturating_mul(2);
    places.find(way, patience, || look(pool, way, began)).await?
}

/// What there is for a request that `began` then. When all connections are nearly full, another one is made beside them, if
/// it may be, and the streams that are left are used up meanwhile.
fn look(
    pool: &Rc<RefCell<Http2Pool>>,
    way: &Way<'_>,
    began: Instant,
) -> Look<Result<Rc<Connection>, Failure>> {
    let mut found = pool.borrow_mut();
    let now = Instant::now();
    if let Some(connection) = found.roomy(now) {
        return Look::Found(Ok(connection));
    }
    if let Some(failure) = found.broken_since(began) {
        return Look::Found(Err(failure));
    }
    found.connections.retain(|c| !c.retired.get() || c.life.active.get() > 0);
    let leaving = found.connections.iter().filter(|c| c.retired.get() && !c.life.closed.get()).count();
    let place = if found.is_opening() { None } else { found.places.place(way, leaving) };
    let opening = place.is_some();
    if let Some(place) = place {
        found.connecting = true;
        start_connecting(pool, way, place);
    }
    way.waits_for.set(if found.is_opening() { WaitsFor::Connection } else { WaitsFor::Others });
    match found.spare(now) {
        Some(connection) => Look::Found(Ok(connection)),
        None if opening => Look::Opening,
        None => Look::Full,
    }
}

/// Opens a connection in a task of its own: the request that asked first may be cancelled, the others still want it.
fn start_connecting(pool: &Rc<RefCell<Http2Pool>>, way: &Way<'_>, place: Place) {
    let limits = way.leg_limits();
    let pinged = way.meshed().then_some(limits.liveness);
    let dial = way.dial();
    let pool = Rc::clone(pool);
    tokio::task::spawn_local(async move {
        let mut place = Some(place);
        let result = match dial {
            Ok(dial) => open(dial, &limits, pinged, &mut place).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok((connection, first)) => {
                pool.borrow_mut().finish_connecting(Ok(&connection));
                if let Some(first) = first {
                    hear(&pool, &connection, first, limits.connect_timeout).await;
                }
            }
            Err(failure) => pool.borrow_mut().finish_connecting(Err(failure)),
        }
        // Nobody is called to a place where a connection has just failed: the next one would fail as fast, and again.
        place.into_iter().for_each(Place::give_up);
    });
}

/// Waits until the peer has said how many streams it takes, and calls those who wait for one. Of a peer that says nothing
/// as many are assumed as every peer should take (RFC 9113 section 6.5.2).
async fn hear(
    pool: &Rc<RefCell<Http2Pool>>,
    connection: &Connection,
    first: oneshot::Receiver<()>,
    patience: Duration,
) {
    let wordless = matches!(timeout(patience, first).await, Ok(Err(_)));
    connection.spoken.set(true);
    let pool = pool.borrow();
    // It is no more, and nothing else is there that those who wait could have.
    let over = (wordless || connection.ended_in_vain()) && !pool.is_usable() && !pool.connecting;
    pool.places.call_all(over.then(|| connection.unsent()).as_ref());
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::task::LocalSet;

    use super::{super::connection::tests::connection, *};
    use crate::upstream::age::Age;

    #[tokio::test(start_paused = true)]
    async fn of_connections_without_room_the_least_busy_is_used_and_an_old_one_last() {
        LocalSet::new()
            .run_until(async {
                let now = Instant::now();
                let hour = Duration::from_secs(3600);
                let mut pool = Http2Pool::default();
                // What each has in use of the hundred streams that are assumed, and when it is too old.
                for (active, end) in [(80, hour), (95, 3 * hour), (90, 3 * hour), (100, 3 * hour)] {
                    let (sender, life) = connection(false).await;
                    life.active.set(active);
                    let (age, last_used) = (Age::from(now, end, 0.0), Cell::new(now));
                    let (spoken, retired) = (Cell::new(true), Cell::new(false));
                    let connection = Connection { sender, made: now, age, last_used, spoken, retired, life };
                    pool.connections.push(Rc::new(connection));
                }
                let spare = |after| pool.spare(now + after).map(|c| c.life.active.get());
                assert_eq!(spare(Duration::ZERO), Some(80));
                assert_eq!(spare(2 * hour), Some(90));
                pool.connections[1..].iter().for_each(|c| c.retired.set(true));
                let spare = pool.spare(now + 2 * hour).map(|c| c.life.active.get());
                assert_eq!(spare, Some(80), "better than none");
            })
            .await;
    }
}
