//! The codec as pure functions: bytes in, bytes out, no state and no rule but the layout of frames
//! ([RFC 6455 §5.2](https://www.rfc-editor.org/rfc/rfc6455#section-5.2)) and the answer to a key.

pub use crate::{
    frame::{
        decode::{decode, encode},
        header::Header,
        mask::mask,
    },
    handshake::key::accept_key,
};
