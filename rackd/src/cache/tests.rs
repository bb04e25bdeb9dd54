use super::chunks::State;
use super::origin::{Origin, Pieces};
use super::*;
use farrier_block::Image as _;
use farrier_model::chunks::{EMPTY_CHUNK, manifest_preimage_header};
use farrier_proto::images::ReadChunksResponse;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex as StdMutex, PoisonError};
use tokio::sync::watch;
use tonic::Status;

const CHUNK: usize = 8192;
const CHUNKS: usize = 40;
const EMPTY: &[usize] = &[3, 20, 21];

/// What takes minutes on a link takes no time here.
const QUICK: Timing = Timing {
    wanted_idle: Duration::from_millis(20),
    fill_idle: Duration::from_secs(100),
    first_pause: Duration::from_millis(1),
    last_pause: Duration::from_millis(2),
    forgive_after: Duration::from_millis(50),
};

/// An images service whose link and disk do as the test says.
struct Fake {
    disk: Vec<u8>,
    manifest: ChunkManifest,
    digest: String,
    behaviour: watch::Sender<Behaviour>,
    /// How often each chunk was sent to its end.
    sent: StdMutex<BTreeMap<usize, usize>>,
}

#[derive(Clone, Default)]
struct Behaviour {
    /// Answers nothing, as behind a cut link.
    silent: bool,
    /// Whoever asks for more than one chunk waits.
    slow: bool,
    refuses: bool,
    /// Chunks that come with other bytes.
    rotten: BTreeSet<usize>,
}

impl Fake {
    fn new() -> Arc<Self> {
        let mut disk: Vec<u8> = (0..u32::try_from(CHUNK * CHUNKS / 4).unwrap())
            .flat_map(|n| (n ^ 0x9e37_79b9).to_le_bytes())
            .collect();
        disk.truncate(CHUNK * CHUNKS - 512);
        let mut digests = Vec::new();
        for (index, chunk) in disk.chunks_mut(CHUNK).enumerate() {
            if EMPTY.contains(&index) {
                chunk.fill(0);
                digests.extend(EMPTY_CHUNK);
            } else {
                digests.extend(Sha256::digest(chunk));
            }
        }
        let header = manifest_preimage_header(disk.len() as u64, CHUNK as u64);
        let digest = hex::encode(Sha256::new().chain_update(header).chain_update(&digests).finalize());
        let manifest = ChunkManifest { size_bytes: disk.len() as i64, chunk_bytes: CHUNK as i64, digests };
        let behaviour = watch::Sender::new(Behaviour::default());
        Arc::new(Self { disk, manifest, digest, behaviour, sent: StdMutex::default() })
    }

    fn be(&self, change: impl FnOnce(&mut Behaviour)) {
        self.behaviour.send_modify(change);
    }

    fn sent(&self) -> BTreeMap<usize, usize> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cache(self: &Arc<Self>, dir: &Path) -> ImageCache {
        ImageCache::with_origin(dir.join("images"), Arc::new(Link(self.clone())), QUICK)
    }

    async fn open(self: &Arc<Self>, dir: &Path) -> Arc<CachedImage> {
        self.cache(dir).open("images/x", &self.digest).await.unwrap()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        self.disk.chunks(CHUNK).nth(index).unwrap()
    }
}

struct Link(Arc<Fake>);

#[async_trait::async_trait]
impl Origin for Link {
    async fn manifest(&self, _: &str, _: &str) -> Result<ChunkManifest, Status> {
        heard(&self.0, 1).await?;
        Ok(self.0.manifest.clone())
    }

    async fn chunks(&self, digest: &str, first: usize, count: usize) -> Result<Pieces, Status> {
        heard(&self.0, count).await?;
        assert_eq!(digest, self.0.digest);
        let fake = self.0.clone();
        let wanted = (first..first + count).filter(|index| !EMPTY.contains(index));
        // In three pieces, the last of them short.
        let pieces = wanted.flat_map(|index| (0..3usize).map(move |piece| (index, piece)));
        let pieces = futures::stream::iter(pieces).then(move |(index, piece)| {
            let fake = fake.clone();
            async move {
                heard(&fake, count).await?;
                let mut chunk = fake.chunk(index).to_vec();
                if fake.behaviour.borrow().rotten.contains(&index) {
                    chunk[7] ^= 1;
                }
                let part = CHUNK * 2 / 5;
                let data = chunk.chunks(part).nth(piece).unwrap().to_vec();
                if piece == 2 {
                    *fake.sent.lock().unwrap_or_else(PoisonError::into_inner).entry(index).or_default() += 1;
                }
                Ok(ReadChunksResponse { chunk: index as i64, offset: (piece * part) as i64, data })
            }
        });
        Ok(pieces.boxed())
    }
}

/// Waits as long as the link is as it is.
async fn heard(fake: &Fake, count: usize) -> Result<(), Status> {
    let mut behaviour = fake.behaviour.subscribe();
    let now = behaviour.wait_for(|now| !(now.silent || now.slow && count > 1)).await.unwrap().clone();
    if now.refuses { Err(Status::not_found("no such disk")) } else { Ok(()) }
}

async fn read(image: &Arc<CachedImage>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let image = image.clone();
    let read = move || {
        let mut buffer = vec![0; len];
        image.read_at(&mut buffer, offset).map(|()| buffer)
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

async fn whole(image: &CachedImage) {
    image.shared.news.subscribe().wait_for(|news| news.whole).await.unwrap();
}

fn once_each(but: &[usize]) -> BTreeMap<usize, usize> {
    (0..CHUNKS).filter(|i| !EMPTY.contains(i)).map(|i| (i, if but.contains(&i) { 2 } else { 1 })).collect()
}

#[tokio::test]
async fn what_is_read_comes_first_and_the_rest_behind_it_each_chunk_once() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    fake.be(|now| now.slow = true);
    let cache = fake.cache(dir.path());
    let image = cache.open("images/x", &fake.digest).await.unwrap();
    let mut buffer = [0; 512];
    let now = image.try_read_at(&mut buffer, 0).unwrap_err();
    assert_eq!(now.kind(), io::ErrorKind::WouldBlock);
    // Across chunks, and through an empty one that the centre never sends.
    let at = 30 * CHUNK - 100;
    assert_eq!(read(&image, at as u64, 200).await.unwrap(), &fake.disk[at..at + 200]);
    assert_eq!(read(&image, 3 * CHUNK as u64, CHUNK).await.unwrap(), fake.chunk(3));
    assert_eq!(fake.sent().into_keys().collect::<Vec<_>>(), [29, 30]);
    assert!(cache.path(&fake.digest).is_none());
    assert!(
        image.arrival(at as u64, 200).is_none() && image.arrival(at as u64 + 200, CHUNK as u64).is_some()
    );
    // The centre gives everything now.
    fake.be(|now| now.slow = false);
    let manifest = cache.ensure("images/x", &fake.digest, |_, _| ()).await.unwrap();
    assert_eq!(manifest, fake.manifest);
    assert_eq!(std::fs::read(cache.path(&fake.digest).unwrap()).unwrap(), fake.disk);
    assert_eq!(fake.sent(), once_each(&[]));
    let left: BTreeSet<String> = std::fs::read_dir(dir.path().join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().path().extension().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, BTreeSet::from([WHOLE.to_owned(), MANIFEST.to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_have_one_fetch() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let cache = Arc::new(fake.cache(dir.path()));
    let readers = (0..24).map(|reader| {
        let (cache, fake) = (cache.clone(), fake.clone());
        tokio::spawn(async move {
            let image = cache.open("images/x", &fake.digest).await.unwrap();
            for step in 0..CHUNKS {
                let index = if reader % 2 == 0 { step } else { (step * 7 + reader) % CHUNKS };
                let len = fake.chunk(index).len();
                assert_eq!(read(&image, (index * CHUNK) as u64, len).await.unwrap(), fake.chunk(index));
            }
            image
        })
    });
    let mut images = Vec::new();
    for reader in readers.collect::<Vec<_>>() {
        images.push(reader.await.unwrap());
    }
    assert!(images.iter().all(|image| Arc::ptr_eq(image, &images[0])));
    whole(&images[0]).await;
    assert_eq!(fake.sent(), once_each(&[]));
}

#[tokio::test]
async fn a_cut_link_is_waited_out() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    fake.be(|now| now.slow = true);
    let image = fake.open(dir.path()).await;
    fake.be(|now| now.silent = true);
    let arrival = tokio::spawn(image.arrival(9 * CHUNK as u64, 1).unwrap());
    // Fetching gives up and begins again, and whoever reads still waits.
    image.shared.news.subscribe().wait_for(|news| news.troubles > 5).await.unwrap();
    assert!(!arrival.is_finished());
    fake.be(|now| now.silent = false);
    arrival.await.unwrap().unwrap();
    assert_eq!(read(&image, 9 * CHUNK as u64, CHUNK).await.unwrap(), fake.chunk(9));
}

#[tokio::test]
async fn a_chunk_that_comes_damaged_is_nobodys_until_it_comes_right() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    fake.be(|now| now.rotten = BTreeSet::from([5]));
    let cache = fake.cache(dir.path());
    let image = cache.open("images/x", &fake.digest).await.unwrap();
    let arrival = tokio::spawn(image.arrival(5 * CHUNK as u64, 1).unwrap());
    let error = cache.ensure("images/x", &fake.digest, |_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("chunk 5 of images/x: expected SHA-256"), "{error}");
    assert!(!arrival.is_finished(), "a running system is not told that its disk is broken");
    assert!(matches!(error, CacheError::Checksum { .. }) && !error.is_transient(), "{error}");
    // All others are good.
    assert_eq!(read(&image, 6 * CHUNK as u64, CHUNK).await.unwrap(), fake.chunk(6));
    fake.be(|now| now.rotten.clear());
    arrival.await.unwrap().unwrap();
    whole(&image).await;
    assert_eq!(read(&image, 5 * CHUNK as u64, CHUNK).await.unwrap(), fake.chunk(5));
}

#[tokio::test]
async fn who_deploys_hears_at_once_that_the_centre_refuses_and_who_runs_waits_for_it() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    fake.be(|now| now.slow = true);
    let cache = fake.cache(dir.path());
    let image = cache.open("images/x", &fake.digest).await.unwrap();
    fake.be(|now| now.refuses = true);
    let arrival = tokio::spawn(image.arrival(0, 1).unwrap());
    let error = cache.ensure("images/x", &fake.digest, |_, _| ()).await.unwrap_err();
    assert!(matches!(error, CacheError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("no such disk") && !arrival.is_finished(), "{error}");
    let (_, _, trouble) = cache.arrived(&fake.digest).await.unwrap();
    assert!(matches!(trouble, Some(CacheError::Refused { .. })), "the operator sees it: {trouble:?}");
    fake.be(|now| *now = Behaviour::default());
    arrival.await.unwrap().unwrap();
    whole(&image).await;
}

#[tokio::test]
async fn what_had_arrived_before_a_kill_is_not_fetched_again_and_what_is_torn_is() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    fake.be(|now| now.slow = true);
    let image = fake.open(dir.path()).await;
    for index in [0, 8, 9, 31] {
        read(&image, (index * CHUNK) as u64, 1).await.unwrap();
    }
    // What is on disk at this moment is what a kill leaves: nothing is written at the end.
    let later = tempfile::tempdir().unwrap();
    std::fs::create_dir(later.path().join("images")).unwrap();
    for entry in std::fs::read_dir(dir.path().join("images")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), later.path().join("images").join(entry.file_name())).unwrap();
    }
    drop(image);
    let part = later.path().join("images").join(format!("{}.{PART}", fake.digest));
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[8 * CHUNK + 4000..9 * CHUNK].fill(0);
    bytes[31 * CHUNK..32 * CHUNK].fill(0);
    std::fs::write(&part, bytes).unwrap();

    let image = fake.open(later.path()).await;
    let states: Vec<State> = [0, 8, 9, 31].map(|index| image.shared.chunks.get(index)).to_vec();
    assert_eq!(states, [State::Claimed; 4]);
    // 31 nobody reads; it is compared before the image gets its final name.
    for index in [0, 8] {
        assert_eq!(read(&image, (index * CHUNK) as u64, CHUNK).await.unwrap(), fake.chunk(index));
    }
    fake.be(|now| now.slow = false);
    whole(&image).await;
    assert_eq!(fake.sent(), once_each(&[8, 31]));
    let whole = later.path().join("images").join(format!("{}.{WHOLE}", fake.digest));
    assert_eq!(std::fs::read(whole).unwrap(), fake.disk);
}

#[tokio::test]
async fn a_chunk_that_rots_in_the_cache_is_fetched_again() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let cache = fake.cache(dir.path());
    cache.ensure("images/x", &fake.digest, |_, _| ()).await.unwrap();
    let path = cache.path(&fake.digest).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[11 * CHUNK] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    // The next start of rackd. The centre is away until somebody needs it.
    let image = fake.open(dir.path()).await;
    assert_eq!(read(&image, 10 * CHUNK as u64, CHUNK).await.unwrap(), fake.chunk(10));
    assert_eq!(read(&image, 11 * CHUNK as u64, CHUNK).await.unwrap(), fake.chunk(11));
    assert_eq!(fake.sent(), once_each(&[11]));
    assert_eq!(std::fs::read(&path).unwrap(), fake.disk);
    // Somebody cuts the file off: it is no image any more.
    drop(image);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(CHUNK as u64).unwrap();
    let image = fake.open(dir.path()).await;
    assert_eq!(read(&image, 39 * CHUNK as u64, 512).await.unwrap(), &fake.chunk(39)[..512]);
}

#[tokio::test]
async fn what_rots_unseen_is_found_by_who_looks_and_fetched_again() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let cache = fake.cache(dir.path());
    // Held: its chunks were compared when they came.
    let image = cache.open("images/x", &fake.digest).await.unwrap();
    whole(&image).await;
    let path = cache.path(&fake.digest).unwrap();
    let rot = |indices: &[usize]| {
        let mut bytes = std::fs::read(&path).unwrap();
        indices.iter().for_each(|index| bytes[index * CHUNK + 9] ^= 0x10);
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
    };
    rot(&[4, 17, 39]);
    assert_eq!(cache.repair("images/x", &fake.digest).await.unwrap(), 3);
    assert_eq!(std::fs::read(&path).unwrap(), fake.disk);
    assert_eq!(cache.repair("images/x", &fake.digest).await.unwrap(), 0);
    assert_eq!(fake.sent(), once_each(&[4, 17, 39]));
    // The centre cannot help: it says why, and so does the next try.
    rot(&[5]);
    fake.be(|now| now.rotten = BTreeSet::from([5]));
    let error = cache.repair("images/x", &fake.digest).await.unwrap_err();
    assert!(matches!(error, CacheError::Checksum { .. }), "{error}");
    fake.be(|now| *now = Behaviour { refuses: true, ..Behaviour::default() });
    let error = cache.repair("images/x", &fake.digest).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    fake.be(|now| *now = Behaviour::default());
    wait_until_repaired(&cache, &fake).await;
    assert_eq!(std::fs::read(&path).unwrap(), fake.disk);
}

/// The fetcher forgives after a while.
async fn wait_until_repaired(cache: &ImageCache, fake: &Fake) {
    while cache.repair("images/x", &fake.digest).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_image_goes_when_room_is_needed_and_nobody_needs_it() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let mut cache = fake.cache(dir.path());
    cache.room = Room { most: 1, free: 0 };
    let evict = async |cache: &ImageCache, needed: &[&str]| {
        let needed = needed.iter().map(|digest| (*digest).to_owned()).collect();
        cache.make_room(async { Ok::<_, CacheError>(needed) }).await.unwrap()
    };
    let image = cache.open("images/x", &fake.digest).await.unwrap();
    whole(&image).await;
    // Somebody holds it; a volume needs it; what is needed is not known.
    assert!(evict(&cache, &[]).await.is_empty());
    drop(image);
    assert!(evict(&cache, &[&fake.digest]).await.is_empty());
    let unknown = async { Err(CacheError::silent("x", 1)) };
    assert!(cache.make_room(unknown).await.is_err());
    assert!(cache.path(&fake.digest).is_some());
    // Nor does one go that was wanted while that was asked, by whoever was asked before: nobody waits for the answer to have it.
    let meanwhile = async {
        drop(cache.open("images/x", &fake.digest).await.unwrap());
        let slot = cache.images.lock().await.slots.get(&fake.digest).unwrap().clone();
        while !slot.lock().await.is_idle() {
            tokio::task::yield_now().await;
        }
        Ok::<_, CacheError>(HashSet::new())
    };
    assert!(cache.make_room(meanwhile).await.unwrap().is_empty());
    // The keeper ends soon after the last holder.
    let gone = async {
        loop {
            let gone = evict(&cache, &[]).await;
            if !gone.is_empty() {
                return gone;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(gone.await, std::slice::from_ref(&fake.digest));
    assert_eq!(std::fs::read_dir(dir.path().join("images")).unwrap().count(), 0);
    // Whoever wants it fetches it again; within its limits nothing goes.
    cache.room = Room { most: 1 << 30, free: 0 };
    let image = cache.open("images/x", &fake.digest).await.unwrap();
    whole(&image).await;
    drop(image);
    assert!(evict(&cache, &[]).await.is_empty());
}

#[tokio::test]
async fn an_image_without_room_is_not_begun_and_room_is_asked_for() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let mut cache = fake.cache(dir.path());
    cache.free = |_| Ok(1000);
    let error = cache.open("images/x", &fake.digest).await.unwrap_err();
    assert!(matches!(error, CacheError::NoRoom(_)) && error.is_transient(), "{error}");
    cache.cramped.notified().await;
    assert!(fake.sent().is_empty());
    cache.free = |_| Ok(u64::MAX);
    whole(&cache.open("images/x", &fake.digest).await.unwrap()).await;
    // What is here needs no room.
    cache.free = |_| Ok(0);
    cache.open("images/x", &fake.digest).await.unwrap();
}

#[tokio::test]
async fn nothing_but_a_digest_names_a_file() {
    let (fake, dir) = (Fake::new(), tempfile::tempdir().unwrap());
    let cache = fake.cache(dir.path());
    for name in ["", "../../etc/passwd", &"g".repeat(64), &format!("{}/", "a".repeat(63))] {
        assert!(cache.path(name).is_none());
        assert!(cache.open("images/x", name).await.is_err(), "{name}");
    }
}
