//! [`PreparedFrame`]: one message for many connections.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    deflate::{Sending, compress_alone},
    frame::Message,
    sync::{Mutex, lock},
};

/// One frame that is sent to many connections: its payload is shared, and compressed at most once for all
/// connections that agreed on the same. Cheap to clone.
///
/// [`Write::prepared`](crate::Write::prepared) makes the [`Message`] that one connection sends. A compressed one
/// refers to no other message, and where the connection keeps its context, the next message does not refer to
/// those before it.
///
/// # Examples
///
/// ```
/// # use coro_websocket::{Error, IoWrite, Message, PreparedFrame};
/// # async fn example(mut members: Vec<IoWrite<Vec<u8>>>) -> Result<(), Error> {
/// let news = PreparedFrame::new(Message::text("one text for all"));
/// for member in &mut members {
///     let message = member.prepared(&news);
///     if member.try_feed(message).is_err() {
///         // It reads too slowly, or is gone.
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PreparedFrame(Arc<Prepared>);

struct Prepared {
    message: Message,
    /// What became of the payload; `None`: it does not get shorter.
    compressed: Mutex<Vec<(Sending, Option<Bytes>)>>,
}

impl PreparedFrame {
    /// Of whole messages the compressed form can be shared; a fragment or a control frame stays as it is.
    #[must_use]
    pub fn new(message: impl Into<Message>) -> Self {
        Self(Arc::new(Prepared { message: message.into(), compressed: Mutex::default() }))
    }

    /// The frame as it was given.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The frame for a connection with this compression.
    pub(crate) fn message_for(&self, sending: Option<Sending>) -> Message {
        let message = self.0.message.clone();
        let Some(sending) = sending.filter(|sending| message.fin && sending.compresses(&message)) else {
            return message;
        };
        // Whoever comes meanwhile waits, instead of doing the same.
        let mut all = lock(&self.0.compressed);
        let known = all.iter().find(|(other, _)| other.is_like(sending)).map(|(_, payload)| payload.clone());
        let payload = known.unwrap_or_else(|| {
            let payload = compress_alone(sending, &message.payload);
            all.push((sending, payload.clone()));
            payload
        });
        match payload {
            Some(payload) => Message { rsv1: true, len: payload.len() as u64, payload, ..message },
            None => message,
        }
    }
}

impl<M: Into<Message>> From<M> for PreparedFrame {
    fn from(message: M) -> Self {
        Self::new(message)
    }
}

impl fmt::Debug for PreparedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedFrame({})", self.0.message)
    }
}
