//! The control socket: `control.sock` in the data folder, for commands to the running server.
//!
//! Only the server's own user and root get through: the socket's mode says so, and the peer's credentials are asked
//! besides, because a mode can only be set after the socket is there. What is said is in [`rookery_core::control`].

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rookery_core::control::{
    CommandError, Commands, REQUEST_BYTES, Reply, Request, SOCKET, answer, read_answer, write_request,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a connection may take to say its next command.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections at once.
const CONNECTIONS: usize = 32;

/// The longest path a Unix socket may have (`sun_path`).
const PATH_BYTES: usize = 100;

/// The server's hold on its data folder: one server at most works with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
    /// Unlocked when it is closed.
    _lock: File,
}

impl ControlSocket {
    /// Takes the data folder, making it if need be, and listens in it. An error of kind `ResourceBusy` means that another
    /// server has it.
    pub fn open(data: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(data)?;
        let lock = File::options().create(true).truncate(false).write(true).open(data.join("rookery.lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("another server works with the folder {}", data.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let path = data.join(SOCKET);
        // Whoever held the lock before is gone, so a socket that is there is a dead one.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (_folder, short) = shortened(&path)?;
        let listener = UnixListener::bind(short)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let owner = std::fs::metadata(&path)?.uid();
        Ok(Self { listener, path, owner, _lock: lock })
    }

    /// Answers commands until `shutdown`, which ends the connections too.
    pub async fn serve(self, commands: Arc<dyn Commands>, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) if self.is_allowed(&stream) => {
                        connections.spawn(converse(stream, commands.clone()));
                    }
                    Ok(_) => tracing::warn!("another user's connection to the control socket was refused"),
                    Err(error) => {
                        tracing::warn!(%error, "the control socket does not take a connection");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
        connections.shutdown().await;
    }

    fn is_allowed(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.owner)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

/// Reads commands and writes answers until the peer leaves, is silent for long or says too much.
async fn converse(mut stream: UnixStream, commands: Arc<dyn Commands>) {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reading).take(REQUEST_BYTES as u64);
        match timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(_)) if line.ends_with(b"\n") => {}
            _ => return,
        }
        let mut answer = answer(line.trim_ascii(), commands.as_ref()).await;
        answer.push('\n');
        match timeout(PATIENCE, writing.write_all(answer.as_bytes())).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Why a command got no reply.
#[derive(Debug)]
pub enum AskError {
    /// No server runs with this data folder.
    NotRunning,
    /// A server may run, and cannot be asked.
    Io(io::Error),
    /// The server refused.
    Refused(CommandError),
}

/// Whether a server runs with this data folder (and may be asked).
pub async fn is_running(data: &Path) -> bool {
    connect(data).await.is_ok()
}

/// Has the running server carry out a command.
pub async fn ask(data: &Path, request: &Request) -> Result<Reply, AskError> {
    let mut line = write_request(request).map_err(AskError::Refused)?;
    line.push('\n');
    let mut stream = connect(data).await?;
    let exchange = async {
        let (reading, mut writing) = stream.split();
        writing.write_all(line.as_bytes()).await?;
        let mut answer = Vec::new();
        BufReader::new(reading).read_until(b'\n', &mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let answer = answer.map_err(AskError::Io)?;
    if !answer.ends_with(b"\n") {
        return Err(AskError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    read_answer(&answer).map_err(AskError::Refused)
}

async fn connect(data: &Path) -> Result<UnixStream, AskError> {
    let path = data.join(SOCKET);
    let connected = match shortened(&path) {
        Ok((_folder, short)) => UnixStream::connect(short).await,
        Err(error) => Err(error),
    };
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning,
        _ => AskError::Io(error),
    })
}

/// A path that fits into a socket's address: long ones go by the open folder, which must stay open meanwhile.
fn shortened(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().len() <= PATH_BYTES {
        return Ok((None, path.to_owned()));
    }
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET);
    Ok((Some(folder), short))
}

#[cfg(test)]
mod tests {
    use rookery_core::config::Secret;
    use rookery_core::control::CommandCondition;
    use tokio::sync::oneshot;

    use super::*;

    struct Echo;

    #[async_trait::async_trait]
    impl Commands for Echo {
        async fn run(&self, request: Request) -> Result<Reply, CommandError> {
            match request {
                Request::UserDel { jid } => Ok(Reply::Account { jid }),
                _ => Err(CommandError::new(CommandCondition::Conflict, "no")),
            }
        }
    }

    /// A folder that is removed at the end; deeper than a socket's address is long when `deep`.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rookery-control-{}-{name}", std::process::id()));
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[tokio::test]
    async fn commands_go_over_the_socket() {
        for name in ["short".to_owned(), "long".repeat(30)] {
            let folder = Folder::new(&name);
            let data = &folder.0;
            let request = Request::UserDel { jid: "a@b".into() };
            assert!(matches!(ask(data, &request).await, Err(AskError::NotRunning)));

            let socket = ControlSocket::open(data).unwrap();
            assert_eq!(std::fs::metadata(data.join(SOCKET)).unwrap().mode() & 0o777, 0o600);
            assert_eq!(std::fs::metadata(data).unwrap().mode() & 0o777, 0o700);
            assert_eq!(ControlSocket::open(data).unwrap_err().kind(), io::ErrorKind::ResourceBusy);

            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(socket.serve(Arc::new(Echo), async { drop(stopped.await) }));
            assert!(matches!(ask(data, &request).await, Ok(Reply::Account { jid }) if jid == "a@b"));
            let refused = Request::UserAdd { jid: "a@b".into(), password: Secret::new("p") };
            assert!(matches!(ask(data, &refused).await, Err(AskError::Refused(error)) if error.text == "no"));

            stop.send(()).unwrap();
            serving.await.unwrap();
            assert!(matches!(ask(data, &request).await, Err(AskError::NotRunning)));
            drop(ControlSocket::open(data).unwrap());
        }
    }

    #[tokio::test]
    async fn a_line_too_long_ends_the_connection() {
        let folder = Folder::new("flood");
        let socket = ControlSocket::open(&folder.0).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(socket.serve(Arc::new(Echo), async { drop(stopped.await) }));
        let mut stream = connect(&folder.0).await.unwrap();
        // The server may hang up while this is still writing.
        drop(stream.write_all(&vec![b' '; REQUEST_BYTES + 1]).await);
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        assert!(rest.is_empty());
        stop.send(()).unwrap();
        serving.await.unwrap();
    }
}
