//! A real S3 server (versitygw) over a temporary folder, and the client calls that tests need.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::ports;
use super::process::{Process, Spec, run, wait_until};

const KEY: &str = "test-access-key";
const SECRET: &str = "test-secret-key";
const REGION: &str = "us-east-1";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A signed URL is used at once.
const VALIDITY: Duration = Duration::from_secs(60);
/// No test stores an object near this size; it bounds what a wrong answer can allocate.
const OBJECT_LIMIT: u64 = 1 << 30;

/// A running server. Dropped, it stops and its folder goes.
#[derive(Debug)]
pub struct S3 {
    objects: Objects,
    process: Process,
    _folder: tempfile::TempDir,
}

/// What is asked of a server: clones ask the same one, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Objects {
    ip: IpAddr,
    port: u16,
    agent: Agent,
}

impl Deref for S3 {
    type Target = Objects;

    fn deref(&self) -> &Objects {
        &self.objects
    }
}

impl S3 {
    /// On loopback.
    pub fn start() -> Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into())
    }

    /// On an address of this machine, such as [`super::cluster::GATEWAY`] for pods to reach it.
    pub fn start_on(ip: IpAddr) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = ports::free_port(ip)?;
        let spec = Spec::new("versitygw", super::tool("versitygw")?)?;
        let spec = spec.args(["--port", &format!("{ip}:{port}"), "--access", KEY, "--secret", SECRET]);
        let (objects, users) = (folder.path().join("objects"), folder.path().join("users"));
        for folder in [&objects, &users] {
            std::fs::create_dir(folder)?;
        }
        let spec = spec.args(["--region", REGION, "--health", "/health", "--iam-dir"]).arg(users).arg("posix").arg(objects);
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(CALL_TIMEOUT)).build().new_agent();
        let mut server = Self { objects: Objects { ip, port, agent }, process: spec.spawn()?, _folder: folder };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// SIGKILL: an outage of the store. [`Self::restart`] brings it back with its content.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()?;
        self.wait_until_ready()
    }

    /// For signals (SIGSTOP makes a store that hangs) and the log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("{}/health", self.endpoint());
        self.process.wait_until("an answer", START_TIMEOUT, || ureq::get(&url).call().ok().map(drop))
    }
}

impl Objects {
    /// `http://…`; path-style addressing.
    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.ip, self.port)
    }

    pub fn access_key(&self) -> &'static str {
        KEY
    }

    pub fn secret_key(&self) -> &'static str {
        SECRET
    }

    pub fn region(&self) -> &'static str {
        REGION
    }

    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let bucket = self.bucket(name)?;
        let url = bucket.create_bucket(&credentials()).sign(VALIDITY);
        accept(self.agent.put(url.as_str()).send_empty()?, "create the bucket", name).map(drop)
    }

    /// Everything in it, and then the bucket itself, though somebody goes on writing to it.
    pub fn delete_bucket(&self, name: &str) -> Result<()> {
        let url = self.bucket(name)?.delete_bucket(&credentials()).sign(VALIDITY);
        wait_until("the bucket to be gone", CALL_TIMEOUT, || {
            self.list(name).ok()?.iter().try_for_each(|key| self.delete(name, key)).ok()?;
            self.agent.delete(url.as_str()).call().ok().filter(|response| response.status().is_success())
        })
        .map(drop)
    }

    /// An account of its own that may do everything with every bucket, until [`Self::delete_user`].
    pub fn create_user(&self, access_key: &str, secret_key: &str) -> Result<()> {
        self.administrate(&["create-user", "--access", access_key, "--secret", secret_key, "--role", "admin"])
    }

    pub fn delete_user(&self, access_key: &str) -> Result<()> {
        self.administrate(&["delete-user", "--access", access_key])
    }

    fn administrate(&self, order: &[&str]) -> Result<()> {
        let endpoint = self.endpoint();
        let root = ["admin", "--access", KEY, "--secret", SECRET, "--endpoint-url", &endpoint];
        run(super::tool("versitygw")?, root.iter().chain(order)).map(drop)
    }

    /// All keys, in S3's order.
    pub fn list(&self, bucket: &str) -> Result<Vec<String>> {
        let (handle, credentials) = (self.bucket(bucket)?, credentials());
        let mut keys = Vec::new();
        let mut next = None::<String>;
        loop {
            let mut action = handle.list_objects_v2(Some(&credentials));
            if let Some(token) = next {
                action.with_continuation_token(token);
            }
            let mut response = accept(self.agent.get(action.sign(VALIDITY).as_str()).call()?, "list", bucket)?;
            let page = ListObjectsV2::parse_response(&response.body_mut().read_to_string()?);
            let page = page.with_context(|| format!("failed to read the listing of {bucket}"))?;
            keys.extend(page.contents.into_iter().map(|object| object.key));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(keys);
            }
        }
    }

    pub fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>> {
        let url = self.bucket(bucket)?.get_object(Some(&credentials()), key).sign(VALIDITY);
        let mut response = accept(self.agent.get(url.as_str()).call()?, "get", key)?;
        Ok(response.body_mut().with_config().limit(OBJECT_LIMIT).read_to_vec()?)
    }

    /// The headers of an object, in lower case: content-type, etag, x-amz-meta-….
    pub fn head(&self, bucket: &str, key: &str) -> Result<BTreeMap<String, String>> {
        let url = self.bucket(bucket)?.head_object(Some(&credentials()), key).sign(VALIDITY);
        let response = accept(self.agent.head(url.as_str()).call()?, "head", key)?;
        let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Ok(response.headers().iter().map(header).collect())
    }

    pub fn put(&self, bucket: &str, key: &str, content: &[u8]) -> Result<()> {
        let url = self.bucket(bucket)?.put_object(Some(&credentials()), key).sign(VALIDITY);
        accept(self.agent.put(url.as_str()).send(content)?, "put", key).map(drop)
    }

    pub fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let url = self.bucket(bucket)?.delete_object(Some(&credentials()), key).sign(VALIDITY);
        accept(self.agent.delete(url.as_str()).call()?, "delete", key).map(drop)
    }

    fn bucket(&self, name: &str) -> Result<Bucket> {
        let endpoint = self.endpoint().parse().context("the endpoint is no URL")?;
        Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), REGION).with_context(|| format!("{name:?} is no bucket name"))
    }
}

fn credentials() -> Credentials {
    Credentials::new(KEY, SECRET)
}

fn accept(mut response: Response<Body>, verb: &str, what: &str) -> Result<Response<Body>> {
    if !response.status().is_success() {
        let body = response.body_mut().read_to_string().unwrap_or_default();
        ensure!(false, "failed to {verb} {what}: {} {body}", response.status());
    }
    Ok(response)
}
