//! Step 5, the extension permessage-deflate (RFC 7692): what is agreed on, messages into less, and back.
//!
//! Pure: no input or output, no clock. Without the feature `deflate` there is the same, of which nobody can make
//! anything.

#[cfg(feature = "deflate")]
mod compress;
#[cfg(feature = "deflate")]
mod decompress;
#[cfg(feature = "deflate")]
mod negotiate;
#[cfg(not(feature = "deflate"))]
mod off;
#[cfg(feature = "deflate")]
pub(crate) use {
    compress::{Deflater, Sending, compress_alone},
    decompress::Inflater,
    negotiate::{check_answer, choose_offer, offered_names},
};

#[cfg(not(feature = "deflate"))]
pub(crate) use off::{
    Deflater, Inflater, Sending, check_answer, choose_offer, compress_alone, offered_names,
};

/// What a message ends with before it is sent, and what is cut off
/// ([RFC 7692 §7.2.1](https://www.rfc-editor.org/rfc/rfc7692#section-7.2.1)): the length of an empty block.
#[cfg(feature = "deflate")]
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

#[cfg(test)]
mod tests;
