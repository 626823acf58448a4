//! The closing handshake (RFC 6455 §7).

use crate::frame::CloseFrame;

/// The Close frames that went both ways ([RFC 6455 §7.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.1)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseFrames {
    /// What we sent, or have buffered to be sent.
    pub sent: Option<CloseFrame>,
    /// What the peer sent.
    pub received: Option<CloseFrame>,
}

impl CloseFrames {
    /// Whether both sides have said that they close: the connection ended cleanly.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.sent.is_some() && self.received.is_some()
    }
}
