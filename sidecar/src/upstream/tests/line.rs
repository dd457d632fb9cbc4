//! The line of those who wait.

use std::{
    future::Future,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::upstream::{
    places::{Look, Places},
    way::Way,
};

#[tokio::test]
async fn a_call_that_nobody_hears_goes_to_the_next() {
    in_both(patient(), async |world| {
        let target = world.target();
        let waits_for = Cell::default();
        let way = Way::new(&world.upstream, &target, None, &waits_for);
        let (places, free) = (Places::default(), Cell::new(0_u32));
        let look = || match free.get() {
            0 => Look::Full,
            n => {
                free.set(n - 1);
                Look::Found(())
            }
        };
        let mut gives_up = Box::pin(places.find(&way, HOUR, look));
        let mut stays = Box::pin(places.find(&way, HOUR, look));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(gives_up.as_mut().poll(&mut cx).is_pending());
        assert!(stays.as_mut().poll(&mut cx).is_pending());
        free.set(1);
        places.call_next();
        drop(gives_up);
        assert!(matches!(stays.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
        assert_eq!(places.waiting(), 0);
    })
    .await;
}

#[tokio::test]
async fn those_called_in_vain_keep_their_order() {
    in_both(patient(), async |world| {
        let target = world.target();
        let waits_for = Cell::default();
        let way = Way::new(&world.upstream, &target, None, &waits_for);
        let (places, free) = (Places::default(), Cell::new(false));
        let look = || if free.take() { Look::Found(()) } else { Look::Full };
        let mut cx = Context::from_waker(Waker::noop());
        let mut line: Vec<_> = (0..4).map(|_| Box::pin(places.find(&way, HOUR, look))).collect();
        for call in [true, true, false] {
            for waits in &mut line {
                assert!(waits.as_mut().poll(&mut cx).is_pending());
            }
            if call {
                places.call_all(None);
            }
        }
        for first in 0..line.len() {
            free.set(true);
            places.call_next();
            for later in (first..line.len()).rev() {
                assert_eq!(line[later].as_mut().poll(&mut cx).is_ready(), later == first, "{later}");
            }
        }
    })
    .await;
}
