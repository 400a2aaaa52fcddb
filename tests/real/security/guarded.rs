//! A broker whose doors have locks: TLS with an authority of its own, SASL PLAIN and SCRAM-SHA-256.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::broker::Broker;

pub(super) const USER: &str = "postrider";
pub(super) const PASSWORD: &str = "right-Horse-7f3a91";
/// For the stores that only the broker and `keytool` open.
const STORE_PASSWORD: &str = "store-4c1e88";

/// The broker, the addresses of its doors, and the certificates.
pub(super) struct Guarded {
    pub(super) broker: Broker,
    /// TLS alone.
    pub(super) ssl: String,
    /// SASL without TLS.
    pub(super) sasl: String,
    /// SASL over TLS.
    pub(super) sasl_ssl: String,
    /// The authority that has signed the broker's certificate.
    pub(super) ca: PathBuf,
    /// One that has not.
    pub(super) other_ca: PathBuf,
    _folder: TempDir,
}

impl Guarded {
    /// The one that all these tests share.
    pub(super) fn shared() -> &'static Self {
        static SHARED: OnceLock<Guarded> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let folder = TempDir::with_prefix("postrider-keys-").expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let ca = authority(folder.path(), "ca");
        let other_ca = authority(folder.path(), "other");
        certificate(folder.path());
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let mut builder = Broker::builder()
            .property(
                "ssl.keystore.location",
                &at("broker.p12").display().to_string(),
            )
            .property("ssl.keystore.type", "PKCS12")
            .property("ssl.keystore.password", STORE_PASSWORD)
            .property("ssl.key.password", STORE_PASSWORD)
            .property("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256")
            .format(&[
                "--add-scram",
                &format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]"),
            ]);
        for listener in ["sasl_plaintext", "sasl_ssl"] {
            let name = |mechanism| format!("listener.name.{listener}.{mechanism}.sasl.jaas.config");
            builder = builder
                .property(
                    &name("plain"),
                    &format!("{plain} required user_{USER}=\"{PASSWORD}\";"),
                )
                .property(&name("scram-sha-256"), &format!("{scram} required;"));
        }
        let ssl = builder.listener("SSL");
        let sasl = builder.listener("SASL_PLAINTEXT");
        let sasl_ssl = builder.listener("SASL_SSL");
        Self {
            broker: builder.start(),
            ssl,
            sasl,
            sasl_ssl,
            ca,
            other_ca,
            _folder: folder,
        }
    }
}

/// Makes an authority: its keys in NAME.p12, its certificate in the PEM file that is returned.
fn authority(folder: &Path, name: &str) -> PathBuf {
    let store = format!("{name}.p12");
    keytool(
        folder,
        &[
            "-genkeypair",
            "-alias",
            name,
            "-keystore",
            &store,
            "-keyalg",
            "EC",
            "-dname",
        ],
        &[
            &format!("CN=Test authority {name}"),
            "-ext",
            "bc:c",
            "-validity",
            "2",
        ],
    );
    let pem = folder.join(format!("{name}.pem"));
    fs::write(
        &pem,
        keytool(
            folder,
            &["-exportcert", "-rfc", "-alias", name, "-keystore", &store],
            &[],
        ),
    )
    .expect("the folder is writable");
    pem
}

/// Makes the broker's certificate, signed by the authority `ca`, in broker.p12.
fn certificate(folder: &Path) {
    let store = ["-alias", "broker", "-keystore", "broker.p12"];
    keytool(
        folder,
        &[
            "-genkeypair",
            "-keyalg",
            "EC",
            "-dname",
            "CN=broker",
            "-validity",
            "2",
        ],
        &store,
    );
    keytool(folder, &["-certreq", "-file", "broker.csr"], &store);
    keytool(
        folder,
        &[
            "-gencert",
            "-alias",
            "ca",
            "-keystore",
            "ca.p12",
            "-infile",
            "broker.csr",
            "-outfile",
            "broker.crt",
        ],
        &[
            "-ext",
            "san=ip:127.0.0.1,dns:localhost",
            "-validity",
            "2",
            "-rfc",
        ],
    );
    for (alias, file) in [("ca", "ca.pem"), ("broker", "broker.crt")] {
        let import = ["-importcert", "-noprompt", "-alias", alias, "-file", file];
        keytool(folder, &import, &["-keystore", "broker.p12"]);
    }
}

/// Java's own tool for keys; returns what it printed.
fn keytool(folder: &Path, arguments: &[&str], more: &[&str]) -> Vec<u8> {
    let output = Command::new("keytool")
        .args(["-J-XX:TieredStopAtLevel=1", "-J-Xshare:auto"])
        .args(arguments)
        .args(more)
        .args(["-storetype", "PKCS12", "-storepass", STORE_PASSWORD])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("keytool starts: it comes with Java");
    assert!(
        output.status.success(),
        "keytool {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
