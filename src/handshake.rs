//! Step 3, the opening handshake (RFC 6455 §4): bytes in, bytes out. Nothing here reads, writes, waits, or
//! draws a key.

pub(crate) mod body;
pub(crate) mod explain;
pub(crate) mod extension;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod key;
pub(crate) mod origin;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod response;

pub use headers::Headers;
pub use reply::Reply;
pub use request::Request;
pub use response::Response;
