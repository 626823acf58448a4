//! Any head is answered or refused, by a server and by a client, and nothing else happens.
#![no_main]

use coro_websocket::{Accept, AcceptOptions, Deflate, Options, accept_io, connect_io};
use futures::{FutureExt, io};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let options = AcceptOptions::default().deflate(Deflate::default());
    let upgrade = accept_io(bytes, io::sink(), options).now_or_never().expect("all there is has come");
    if let Ok(upgrade) = upgrade {
        let _ = upgrade.check();
        let _ = upgrade.accept(Accept::default()).now_or_never().expect("everything is taken");
    }
    let options = Options::default().host("localhost").deflate(Deflate::default());
    let opened = connect_io(bytes, io::sink(), options).now_or_never().expect("all there is has come");
    assert!(opened.is_err(), "nobody knows our key");
});
