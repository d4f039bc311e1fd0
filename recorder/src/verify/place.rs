//! Where a manifest lies: a folder or a bucket.

use std::path::Path;

use super::{Options, Refused};
use crate::store::Store;
use crate::store::s3::{S3Options, S3Store};
use crate::store::volume::VolumeStore;

/// The store, and the manifest's key in it; what the manifest names lies beside it.
pub(super) async fn open(options: &Options) -> Result<(Box<dyn Store>, String), Refused> {
    match options.manifest.strip_prefix("s3://") {
        Some(address) => bucket(options, address).await,
        None => folder(Path::new(&options.manifest)),
    }
}

fn folder(path: &Path) -> Result<(Box<dyn Store>, String), Refused> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name =
        name.filter(|_| !path.is_dir()).ok_or_else(|| Refused::Place(format!("{} is no file: name the manifest", path.display())))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Box::new(VolumeStore::of(folder)), name.to_owned()))
}

async fn bucket(options: &Options, address: &str) -> Result<(Box<dyn Store>, String), Refused> {
    let (bucket, prefix, name) = split(address).ok_or_else(|| Refused::Place(format!("s3://{address} is not s3://BUCKET/KEY")))?;
    let ca_bundle = options.ca_bundle.as_deref().map(std::fs::read).transpose();
    let s3 = S3Options {
        bucket: bucket.to_owned(),
        region: Some(options.region.clone()),
        endpoint: options.endpoint.clone(),
        force_path_style: options.force_path_style,
        prefix: prefix.to_owned(),
        ca_bundle: ca_bundle.map_err(|error| Refused::Place(format!("failed to read the CA bundle: {error}")))?,
        ..S3Options::default()
    };
    Ok((Box::new(S3Store::open(s3).await?), name.to_owned()))
}

/// Bucket, prefix and name.
fn split(address: &str) -> Option<(&str, &str, &str)> {
    let (bucket, key) = address.split_once('/')?;
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
    (!bucket.is_empty() && !name.is_empty()).then_some((bucket, prefix, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_key() {
        assert_eq!(split("media/acme/standups/m.json"), Some(("media", "acme/standups", "m.json")));
        assert_eq!(split("media/m.json"), Some(("media", "", "m.json")));
        assert_eq!([split("media"), split("media/"), split("/m.json"), split("media/acme/")], [None; 4]);
    }
}
