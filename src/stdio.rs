//! stdin and stdout as one more connection: two threads copy between them and a socket that a shard adopts.
//!
//! Why threads: a pipe, a file and a terminal are all legal here, and only blocking reads treat them alike.
//! Nothing is buffered on the way out: what the shard has sent, the client sees.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use erlmcp_shards::fleet::Fleet;

/// Bytes copied at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Connects stdin and stdout with the first shard. `on_close` is called once, when stdout will get nothing more.
pub fn serve(fleet: &Fleet, on_close: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let from_shard = ours.try_clone()?;
    fleet.adopt(OwnedFd::from(theirs)).map_err(|_| io::Error::other("the shard took no mail"))?;
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // At the end of stdin, or of whoever reads: the shard sees FIN, answers what it has, and closes.
        let _ = copy(&mut io::stdin().lock(), &mut &ours);
        let _ = ours.shutdown(Shutdown::Write);
    })?;
    std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        if let Err(err) = copy(&mut &from_shard, &mut io::stdout().lock()) {
            // Nobody reads any more (EPIPE), so nothing needs to be said.
            log::info!("stdout: {err}");
            let _ = from_shard.shutdown(Shutdown::Both);
        }
        on_close();
    })?;
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&chunk[..count])?;
                to.flush()?;
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}
