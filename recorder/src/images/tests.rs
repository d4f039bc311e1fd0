use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// 2x2 pixels of red.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR42mP4z8AARAwQCgAf7gP9Y167WwAAAABJRU5ErkJggg==";
const LIMIT: Duration = Duration::from_secs(10);

/// A server with one image under `/red.png` and a text under everything else.
async fn server() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = connection.read(&mut request).await.unwrap_or(0);
            let red = request[..length].starts_with(b"GET /red.png");
            let body = if red { base64::Engine::decode(&base64::prelude::BASE64_STANDARD, PNG).expect("base64") } else { b"text".to_vec() };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = connection.write_all(head.as_bytes()).await;
            let _ = connection.write_all(&body).await;
        }
    });
    format!("http://{address}")
}

fn wanted(url: String) -> Wanted {
    Wanted { url, field: "userImages" }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, looked).await.unwrap_or_else(|_| panic!("{what} never came"));
}

#[tokio::test]
async fn an_image_stays_in_the_album_while_a_layout_that_shows_it_may_be_in_force() {
    let (server, album) = (server().await, Arc::new(Album::default()));
    let mut images = Images::new(album.clone(), true);
    let red = format!("{server}/red.png");
    images.want(vec![wanted(red.clone()), wanted(red.clone())]);
    until("the image", || album.keys() == [key(&red)]).await;
    assert_eq!(images.failure(), None);
    images.want(Vec::new());
    assert_eq!(album.keys(), [key(&red)], "what is in the delay line shows it");
    images.want(vec![wanted(red.clone())]);
    images.tidy();
    assert_eq!((album.keys(), images.before.len()), (vec![key(&red)], 0), "it is wanted again");
    images.want(vec![wanted(format!("{server}/another"))]);
    images.want(Vec::new());
    images.tidy();
    assert_eq!(album.keys(), [key(&red)], "however often the layout changes meanwhile");
    let long_ago = Instant::now().checked_sub(KEPT + Duration::from_secs(1)).expect("a machine that has run for a while");
    images.before.values_mut().for_each(|since| *since = long_ago);
    images.tidy();
    assert_eq!((album.keys(), images.before.len()), (vec![], 0));
}

#[tokio::test]
async fn what_is_no_image_is_said_without_its_path_until_it_is_not_wanted_any_more() {
    let (server, album) = (server().await, Arc::new(Album::default()));
    let mut images = Images::new(album.clone(), true);
    images.want(vec![wanted(format!("{server}/secret?signature=secret"))]);
    images.settled(LIMIT).await;
    let said = images.failure().expect("a failure");
    assert!(said.starts_with("spec.layout.userImages: ") && !said.contains("secret"), "{said}");
    images.want(Vec::new());
    assert_eq!((images.failure(), album.keys()), (None, vec![]));
    images.want(vec![wanted(format!("{server}/secret?signature=secret"))]);
    images.settled(LIMIT).await;
    assert_eq!(images.failure(), Some(said), "it is tried again");
}

#[tokio::test]
async fn a_private_address_is_not_asked_unless_it_may_be() {
    let (server, album) = (server().await, Arc::new(Album::default()));
    let mut images = Images::new(album.clone(), false);
    images.want(vec![wanted(format!("{server}/red.png"))]);
    until("a failure", || images.failure().is_some()).await;
    let said = images.failure().expect("a failure");
    assert!(said.contains("no public address"), "{said}");
}
