//! `sqlx::migrate!` embeds the folders below; a new migration must rebuild the server.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
