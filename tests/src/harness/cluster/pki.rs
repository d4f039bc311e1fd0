//! The certificates of a cluster: one authority, a serving certificate for each server and a client certificate for each component.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The files of one certificate and its key.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    pub(super) fn in_folder(folder: &Path, name: &str) -> Self {
        Self { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) }
    }
}

pub(super) struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the authority and writes it to `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "recording-tests");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        write(&folder.join("ca.crt"), &certificate.pem())?;
        write(&folder.join("ca.key"), &key.serialize_pem())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    pub(super) fn authority(&self) -> Pair {
        self.pair("ca")
    }

    /// What service account tokens are signed with: the public key in place of a certificate.
    pub(super) fn signing_key(&self, name: &str) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let pair = self.pair(name);
        write(&pair.certificate, &key.public_key_pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }

    /// For a server that is reached under these names and addresses.
    pub(super) fn server(&self, name: &str, reached_as: &[&str]) -> Result<Pair> {
        let names: Vec<String> = reached_as.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, params)
    }

    /// For a client: Kubernetes takes the common name as the user and the organisation as the group.
    pub(super) fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, params)
    }

    /// A kubeconfig, with the path of its file, for a client certificate.
    pub(super) fn kubeconfig(&self, path: &Path, server: &str, client: &Pair) -> Result<()> {
        let yaml = format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters: [{{name: tests, cluster: {{server: '{server}', certificate-authority: '{authority}'}}}}]\n\
             users: [{{name: tests, user: {{client-certificate: '{certificate}', client-key: '{key}'}}}}]\n\
             contexts: [{{name: tests, context: {{cluster: tests, user: tests}}}}]\n\
             current-context: tests\n",
            authority = self.authority().certificate.display(),
            certificate = client.certificate.display(),
            key = client.key.display(),
        );
        write(path, &yaml)
    }

    fn issue(&self, name: &str, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = self.pair(name);
        write(&pair.certificate, &certificate.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair::in_folder(&self.folder, name)
    }
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("failed to write {}", path.display()))
}
