//! To be written.
pub async fn run(_args: crate::cli::RunArgs) -> anyhow::Result<()> {
    Ok(())
}
