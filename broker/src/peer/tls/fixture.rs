//! Certificates for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};

use crate::config::BrokerConfig;

const DAY: Duration = Duration::from_secs(86_400);

/// An authority with a directory of its own for what it issues.
pub(in crate::peer) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// What is to be certified.
#[derive(Clone, Copy, Default)]
pub(in crate::peer) struct Subject<'a> {
    pub(in crate::peer) uris: &'a [&'a str],
    /// From today on; of no days: it has expired yesterday.
    pub(in crate::peer) days: u32,
    pub(in crate::peer) usages: &'a [ExtendedKeyUsagePurpose],
}

impl Authority {
    pub(in crate::peer) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory: directory.to_owned() }
    }

    /// Issues a certificate; the configuration names its files.
    pub(in crate::peer) fn issue(&self, name: &str, subject: Subject<'_>) -> BrokerConfig {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let now = SystemTime::now();
        params.not_before = (now - 10 * DAY).into();
        params.not_after = match subject.days {
            0 => now - DAY,
            days => now + days * DAY,
        }
        .into();
        let uris = subject.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names = uris.collect();
        params.extended_key_usages = subject.usages.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.at(name, "pem"), certificate.pem()).unwrap();
        fs::write(self.at(name, "key"), key.serialize_pem()).unwrap();
        self.config(name)
    }

    /// A certificate of a node, or of all.
    pub(in crate::peer) fn node(&self, id: Option<i32>) -> BrokerConfig {
        let uri = id.map(|id| format!("sawlog://node/{id}"));
        let uris: Vec<&str> = uri.iter().map(String::as_str).collect();
        let name = id.map_or_else(|| "all".to_owned(), |id| id.to_string());
        self.issue(&name, Subject { uris: &uris, days: 90, ..Subject::default() })
    }

    pub(in crate::peer) fn at(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.join(format!("{name}.{kind}"))
    }

    fn config(&self, name: &str) -> BrokerConfig {
        let path = |name: &str, kind| self.at(name, kind).to_string_lossy().into_owned();
        changed(&BrokerConfig::default(), |config| {
            config.peer_tls_certificate_file = path(name, "pem");
            config.peer_tls_key_file = path(name, "key");
            config.peer_tls_ca_file = path("ca", "pem");
        })
    }
}

/// A configuration like another.
pub(in crate::peer) fn changed(
    config: &BrokerConfig,
    change: impl FnOnce(&mut BrokerConfig),
) -> BrokerConfig {
    let mut config = config.clone();
    change(&mut config);
    config
}
