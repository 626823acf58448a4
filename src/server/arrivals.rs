//! Clients as they arrive: from which listener, within which limits, and what when there cannot be more.

use std::{
    future::poll_fn,
    io, mem,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use crate::{
    callers::{Caller, Callers},
    clock::{Alarm, now},
    deadline::Deadline,
    error::Error,
    net::{
        Connected,
        listen::{Listener, occupy},
    },
    options::{AcceptOptions, OnFailure, ServerOptions},
    seats::{Seat, Seats},
    sync::{Mutex, lock},
};

/// How long to wait before trying again when the system has nothing left for another connection, at first and at
/// most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How many are accepted one after the other before everything else has its turn, however many wait.
pub(super) const IN_A_ROW: u32 = 32;

/// How many connections that failed before they were accepted are passed over at once.
const PASSED_OVER: u32 = 64;

/// A client that has arrived.
pub(super) struct Arrival {
    pub(super) connected: Connected,
    pub(super) listener: Arc<Listener>,
    pub(super) deadline: Deadline,
    /// Given back once the request is there.
    pub(super) handshake: Seat,
}

pub(super) struct Arrivals {
    queue: Mutex<Queue>,
    handshakes: Arc<Seats>,
    connections: Arc<Seats>,
    /// Told of everything that may end a wait but arrivals: seats that become free, and the end.
    changed: Arc<Callers>,
    pub(super) accept: Arc<AcceptOptions>,
    pub(super) on_failure: OnFailure,
}

#[derive(Default)]
struct Queue {
    /// None: the server is closed.
    places: Vec<Place>,
    /// The index of the place to ask first.
    turn: usize,
    /// The number of clients accepted since other futures had their turn.
    in_a_row: u32,
}

/// A listener and the state of accepting from it. A failure of one listener does not hold up the others.
struct Place {
    listener: Arc<Listener>,
    /// How long the next pause will be.
    pause: Duration,
    /// No connection is accepted here before this time.
    paused_until: Option<Instant>,
}

/// What can be done at this moment.
enum Next {
    Accepted(Arrival),
    /// It is the turn of others.
    Enough,
    Closed,
    /// A socket has stopped listening; others still listen.
    GivenUp(io::Error),
    /// The last socket has stopped listening.
    Failed(io::Error),
    /// A place cannot accept a connection for now.
    Refused(io::Error),
    /// There is no seat.
    Full,
    /// No client has arrived at these places. The paused places are to be asked at this time.
    Idle(Vec<Arc<Listener>>, Option<Instant>),
}

impl Arrivals {
    pub(super) fn new(listeners: Vec<Arc<Listener>>, options: ServerOptions) -> Self {
        let changed = Arc::<Callers>::default();
        let places = listeners.into_iter().map(Place::new).collect();
        Self {
            queue: Mutex::new(Queue { places, ..Queue::default() }),
            handshakes: Seats::new(options.max_handshakes, &changed),
            connections: Seats::new(options.max_connections, &changed),
            changed,
            accept: Arc::new(options.accept),
            on_failure: options.on_failure,
        }
    }

    /// Those who listen; none, if the server is closed.
    pub(super) fn listeners(&self) -> Vec<Arc<Listener>> {
        lock(&self.queue).places.iter().map(|place| Arc::clone(&place.listener)).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.queue).places.is_empty()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.taken()
    }

    pub(super) fn close(&self) {
        let places = mem::take(&mut lock(&self.queue).places);
        for place in places {
            place.listener.shut();
        }
        self.changed.wake_all();
    }

    /// Waits for the next client. `None`: the server is closed. Dropping the future loses nobody.
    pub(super) async fn next(&self) -> Result<Option<Arrival>, Error> {
        let mut alarm = Alarm::default();
        let caller = self.changed.enter();
        loop {
            // Before looking, so that no change is missed.
            poll_fn(|cx| {
                caller.register(cx.waker());
                Poll::Ready(())
            })
            .await;
            match self.try_accept() {
                Next::Accepted(arrival) => return Ok(Some(arrival)),
                Next::Enough => give_way().await,
                Next::Closed => return Ok(None),
                Next::Failed(error) => {
                    let error = error.into();
                    self.on_failure.call(None, &error);
                    return Err(error);
                }
                Next::GivenUp(error) | Next::Refused(error) => self.on_failure.call(None, &error.into()),
                Next::Full => poll_fn(|cx| caller.poll_woken(cx)).await,
                Next::Idle(listeners, until) => idle(&listeners, &mut alarm, until, &caller).await,
            }
        }
    }

    fn try_accept(&self) -> Next {
        let mut queue = lock(&self.queue);
        let queue = &mut *queue;
        if queue.places.is_empty() {
            return Next::Closed;
        }
        if queue.in_a_row >= IN_A_ROW {
            queue.in_a_row = 0;
            return Next::Enough;
        }
        if self.handshakes.is_full() || self.connections.is_full() {
            return Next::Full;
        }
        let mut idle = Vec::new();
        let mut next: Option<Instant> = None;
        let count = queue.places.len();
        for _ in 0..count {
            queue.turn = (queue.turn + 1) % count;
            let Some(place) = queue.places.get_mut(queue.turn) else { continue };
            match place.paused_until {
                // A connection that has ended since may have freed what was missing, but usually another has taken it
                // by now. Asking each time would make the pause useless.
                Some(until) if now() < until => {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    continue;
                }
                _ => place.paused_until = None,
            }
            match accept(&place.listener) {
                Ok(Ok(mut connected)) => {
                    place.pause = PAUSE.0;
                    let listener = Arc::clone(&place.listener);
                    queue.in_a_row += 1;
                    occupy(&mut connected, self.connections.take());
                    return Next::Accepted(Arrival {
                        connected,
                        listener,
                        deadline: Deadline::after(self.accept.timeout),
                        handshake: self.handshakes.take(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    idle.push(Arc::clone(&place.listener));
                }
                // It does not listen, and never will again.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    let place = queue.places.remove(queue.turn);
                    place.listener.shut();
                    let text = format!("{} listens no more: {error}", place.listener);
                    let error = io::Error::new(error.kind(), text);
                    return if queue.places.is_empty() { Next::Failed(error) } else { Next::GivenUp(error) };
                }
                Ok(Err(error)) | Err(error) => {
                    place.paused_until = Some(now() + place.pause);
                    place.pause = PAUSE.1.min(place.pause * 2);
                    let text = format!("{} accepts no connection for now: {error}", place.listener);
                    return Next::Refused(io::Error::new(error.kind(), text));
                }
            }
        }
        Next::Idle(idle, next)
    }
}

impl Place {
    const fn new(listener: Arc<Listener>) -> Self {
        Self { listener, pause: PAUSE.0, paused_until: None }
    }
}

/// Accepts a client that has arrived. Skips network errors of a single connection, which some systems report here.
fn accept(listener: &Listener) -> io::Result<io::Result<Connected>> {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    let mut passed_over = 0;
    loop {
        match listener.accept() {
            Err(error)
                if matches!(
                    error.kind(),
                    ConnectionAborted
                        | ConnectionReset
                        | HostUnreachable
                        | Interrupted
                        | NetworkDown
                        | NetworkUnreachable
                ) && passed_over < PASSED_OVER =>
            {
                passed_over += 1;
            }
            accepted => return accepted,
        }
    }
}

/// Lets everybody else have a turn.
pub(super) async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits until a client may have arrived, until `until`, or until the caller is woken for another reason. After every
/// wake-up the caller tries to accept: the reactor's readiness is only used for the wake-up, because it misses events
/// of the round in which it was asked.
async fn idle(listeners: &[Arc<Listener>], alarm: &mut Alarm, until: Option<Instant>, caller: &Caller<'_>) {
    let mut arrivals: Vec<_> = listeners.iter().map(|listener| listener.arrival()).collect();
    let mut asked = false;
    poll_fn(|cx| {
        if mem::replace(&mut asked, true) || caller.poll_woken(cx).is_ready() {
            return Poll::Ready(());
        }
        if until.is_some_and(|until| alarm.poll_at(cx, until).is_ready()) {
            return Poll::Ready(());
        }
        let arrived = arrivals.iter_mut().any(|arrival| arrival.as_mut().poll(cx).is_ready());
        if arrived { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
