//! A server with one domain on a port of the kernel's choice, and a client that trusts its certificate.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod world;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rookery_core::config::{Listener, ListenerKind, TlsMode};
use rookery_net::certs::{Certificates, HostFiles};
use rookery_net::limits::{Admission, ConnectionLimits};
use rookery_net::server::Server;
use rookery_net::tls::Tls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;

pub(crate) const HOST: &str = "chat.example";

/// A folder that is removed at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rookery-net-it-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn tls(dir: &Scratch) -> Tls {
    let files = HostFiles {
        host: HOST.to_owned(),
        certificate: dir.0.join("c.crt"),
        key: dir.0.join("c.key"),
        generate: true,
        service: false,
    };
    Tls::for_clients(Arc::new(Certificates::open(vec![files], None).expect("a certificate"))).expect("TLS")
}

pub(crate) fn client_config(dir: &Scratch) -> Arc<ClientConfig> {
    client_config_of(dir, rustls::DEFAULT_VERSIONS)
}

pub(crate) fn client_config_of(
    dir: &Scratch,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.0.join("c.crt")).expect("a certificate")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

pub(crate) fn listener(mode: TlsMode) -> Listener {
    Listener { address: "127.0.0.1:0".parse().expect("an address"), ..Listener::new(ListenerKind::C2s, 0, mode) }
}

/// A server on one port, and its address.
pub(crate) fn server(tls: Tls, mode: TlsMode, limits: ConnectionLimits) -> (Server, SocketAddr, Arc<Admission>) {
    let admission = Admission::new(limits);
    let server = Server::bind(&[listener(mode)], tls, admission.clone(), Duration::from_secs(10)).expect("a port");
    let address = server.ports().next().expect("a port").address;
    (server, address, admission)
}

/// No limit for the tests' own address.
pub(crate) fn unlimited() -> ConnectionLimits {
    ConnectionLimits { exempt: vec!["127.0.0.0/8".parse().expect("a range")], ..ConnectionLimits::default() }
}

/// A TLS client by hand, as plain as can be.
pub(crate) struct Client {
    pub(crate) tcp: TcpStream,
    pub(crate) tls: ClientConnection,
    /// Decrypted, and not taken yet.
    plain: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::over(TcpStream::connect(address).await?, config).await
    }

    /// The handshake on a connection that exists.
    pub(crate) async fn over(tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(HOST).expect("a name");
        // Made-up time does not wait for the kernel to wait for more.
        tcp.set_nodelay(true)?;
        let tls = ClientConnection::new(config.clone(), name).expect("a client");
        let mut client = Self { tcp, tls, plain: Vec::new() };
        while client.tls.is_handshaking() {
            client.flush().await?;
            client.receive().await?;
        }
        client.flush().await?;
        Ok(client)
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            let mut out = Vec::new();
            self.tls.write_tls(&mut out)?;
            let mut rest = &out[..];
            while !rest.is_empty() {
                self.tcp.writable().await?;
                match self.tcp.try_write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Takes what comes next from the socket; `false` at its end.
    pub(crate) async fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            self.tcp.readable().await?;
            match self.tcp.try_read(&mut buffer) {
                Ok(count) => {
                    let mut bytes = &buffer[..count];
                    if count == 0 {
                        self.tls.read_tls(&mut bytes)?;
                        return match self.tls.is_handshaking() {
                            true => Err(io::ErrorKind::UnexpectedEof.into()),
                            false => Ok(false),
                        };
                    }
                    while !bytes.is_empty() {
                        self.tls.read_tls(&mut bytes)?;
                        self.tls.process_new_packets().map_err(io::Error::other)?;
                        self.decrypted().or_else(|error| match error.kind() {
                            io::ErrorKind::WouldBlock => Ok(()),
                            _ => Err(error),
                        })?;
                    }
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn say(&mut self, text: &[u8]) -> io::Result<()> {
        for piece in text.chunks(16 * 1024) {
            self.tls.writer().write_all(piece)?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Takes what is decrypted; returns at the end.
    fn decrypted(&mut self) -> io::Result<()> {
        loop {
            let mut buffer = [0; 16 * 1024];
            match self.tls.reader().read(&mut buffer)? {
                0 => return Ok(()),
                count => self.plain.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// So many bytes of plaintext, or what came before the end. Safe to drop at any await.
    pub(crate) async fn hear(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.plain.len() < count {
            match self.decrypted() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.receive().await? {
                        break;
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(std::mem::take(&mut self.plain))
    }
}
