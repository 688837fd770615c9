//! The driver against workers written in shell.

use super::*;
use crate::accelerator::Reading;
use crate::timing::sampler::{Effort, sample};

const GREETING: &str = "echo touchstone-worker 1 backend=shell threads=2 isa=none version=1 device=sh";

/// A worker written in shell.
fn shell(script: &str) -> Launch {
    let mut launch = Launch::new("/bin/sh", ["-c", script], 2);
    launch.timeout = Duration::from_secs(30);
    launch
}

fn impatient(script: &str) -> Launch {
    Launch { timeout: Duration::from_millis(300), ..shell(script) }
}

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn any_language_can_join() {
    let script = format!(
        "{GREETING}; while read -r request rest; do case $request in
           prepare) echo prepared entries=1 bytes=8 contract=normwise probabilities=f32 tables=f32 \
                    flushes_subnormals=false allocation=per_call path=sh colour=blue;;
           run) set -- $rest; echo ran $(($2 * 3000000));;
           outputs) echo error no \"$rest\";;
           release) echo released;;
           scatter) case $rest in 7) echo scattered;; *) echo error no such request;; esac;;
           memory) case $rest in softmax*) echo memory 512;; *) echo unsupported no;; esac;;
           quit) echo bye; exit;;
         esac; done"
    );
    let mut worker = Worker::spawn(&shell(&script)).unwrap();
    assert_eq!(worker.name(), "shell");
    assert_eq!(worker.greeting().unwrap().info.threads, 2);
    let case: Case = "softmax f32 shape=1".parse().unwrap();
    let Readiness::Ready(ready) = worker.prepare(&case, 1).unwrap() else { panic!() };
    assert_eq!((ready.entries, ready.bytes), (1, 8));
    let refused = worker.outputs(&case.problem).unwrap_err();
    assert!(matches!(&refused, DriverError::Refused { message, .. } if message.starts_with("no /")));
    // It claims more time than passes: the samples are there, but marked.
    let sampling = sample(std::slice::from_mut(&mut worker), &Effort::default(), 1, &|| false);
    let samples = sampling.samples[0].as_ref().unwrap();
    assert!(samples.contaminated());
    assert_eq!((samples.iterations, samples.summary().unwrap().median), (1, 3_000_000));
    assert_eq!(worker.extra_memory(&case).unwrap(), Some(512));
    assert_eq!(worker.extra_memory(&"relu f32 shape=1".parse().unwrap()).unwrap(), None);
    // One that is older than this request lives on.
    assert_eq!((worker.scatter(7).unwrap(), worker.scatter(8).unwrap()), (true, false));
    worker.release().unwrap();
    assert_eq!(worker.request(&Request::Quit).unwrap(), Response::Bye);
}

#[test]
fn the_environment_says_how_many_threads() {
    let script = format!(
        "{GREETING}; read -r _; echo error $OMP_NUM_THREADS $MKL_NUM_THREADS \
         $RAYON_NUM_THREADS $MALLOC_TRIM_THRESHOLD_ $OWN; read -r _"
    );
    let mut launch = shell(&script);
    launch.env.push(("OWN".into(), "mine".into()));
    let mut worker = Worker::spawn(&launch).unwrap();
    let error = worker.release().unwrap_err();
    assert_eq!(error.to_string(), "shell: 2 2 2 17179869184 mine");
}

/// A process that goes on working in the background after its answer, for a while.
#[test]
#[cfg(target_os = "linux")]
fn a_turn_ends_when_the_worker_rests() {
    let busy = "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done";
    let script = format!("{GREETING}; read -r _; echo ran 5; {busy}; read -r _");
    let mut worker = Worker::spawn(&shell(&script)).unwrap();
    worker.run(1, 1).unwrap();
    assert_eq!(machine::is_at_rest(worker.pid()), Some(true));
}

#[test]
fn a_hanging_worker_is_killed() {
    let mut worker = Worker::spawn(&shell(&format!("{GREETING}; exec sleep 1000"))).unwrap();
    worker.set_timeout(Duration::from_millis(200));
    let pid = worker.pid();
    let error = worker.run(1, 10).unwrap_err();
    assert!(matches!(&error, DriverError::Timeout { request, .. } if request == "run 1 10"), "{error}");
    assert!(!alive(pid));
    assert!(matches!(worker.run(1, 10), Err(DriverError::Died { .. })));
    let silent = Worker::spawn(&impatient("exec sleep 1000")).unwrap_err();
    assert!(matches!(&silent, DriverError::Timeout { request, .. } if request == "greeting"), "{silent}");
}

#[test]
fn a_dead_worker_leaves_its_last_words() {
    let script = format!("{GREETING}; read -r _; echo out of luck >&2; exit 7");
    let mut worker = Worker::spawn(&shell(&script)).unwrap();
    let error = worker.run(1, 10).unwrap_err();
    let DriverError::Died { status, stderr, .. } = &error else { panic!("{error}") };
    assert_eq!((status.as_str(), stderr.as_str()), ("exit status: 7", "out of luck"));
    let long = "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1";
    let DriverError::Died { stderr, .. } = Worker::spawn(&shell(long)).unwrap_err() else { panic!() };
    assert!(stderr.len() <= STDERR_TAIL && stderr.ends_with("line 2999"));
}

#[test]
fn strangers_are_refused() {
    let missing = Worker::spawn(&Launch::new("/no/such/worker", [""; 0], 1)).unwrap_err();
    assert!(missing.to_string().starts_with("/no/such/worker: cannot be started"), "{missing}");
    let version = Worker::spawn(&shell("echo touchstone-worker 2 x; read -r _")).unwrap_err();
    assert!(
        matches!(version, DriverError::Protocol { source: ProtocolError::Version { .. }, .. }),
        "{version}"
    );
    for other in ["echo hello; read -r _", "head -c 1000000 /dev/zero; read -r _"] {
        let other = Worker::spawn(&shell(other)).unwrap_err();
        assert!(matches!(other, DriverError::Protocol { .. }), "{other}");
    }
    let mut confused = Worker::spawn(&shell(&format!("{GREETING}; read -r _; echo bye; read -r _"))).unwrap();
    let error = confused.run(1, 1).unwrap_err();
    assert_eq!(error.to_string(), "shell: 'bye' is no answer to 'run 1 1'");
}

#[test]
fn dropping_kills() {
    let worker = Worker::spawn(&shell(&format!("{GREETING}; exec sleep 1000"))).unwrap();
    let pid = worker.pid();
    drop(worker);
    assert!(!alive(pid));
}

/// Sensors that say what a list says, and the last of it for ever.
#[derive(Debug)]
struct Listed(Mutex<VecDeque<Reading>>);

impl Sensors for Listed {
    fn read(&self) -> Reading {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = readings[0].clone();
        if readings.len() > 1 {
            readings.pop_front();
        }
        first
    }
}

#[test]
fn a_hot_device_contaminates_its_slices() {
    let script = format!(
        "{GREETING}; while read -r request rest; do case $request in
           prepare) echo prepared entries=1 bytes=8 contract=normwise probabilities=f32 tables=f32 \
                    flushes_subnormals=false allocation=per_call path=sh clock=device;;
           run) sleep 0.003; echo ran 2000000 waited=100000;;
         esac; done"
    );
    let mut worker = Worker::spawn(&shell(&script)).unwrap();
    assert!(worker.device_health().is_none(), "nothing to read");
    let cool = Reading { clock_mhz: Some(1980.0), throttle: vec![Throttle::PowerCap], ..Reading::default() };
    let hot = Reading {
        clock_mhz: Some(1200.0),
        throttle: vec![Throttle::Thermal],
        memory: Some(9),
        ..cool.clone()
    };
    worker.watch(Arc::new(Listed(Mutex::new([cool.clone(), hot.clone(), cool].into()))));
    let case: Case = "softmax f32 shape=1".parse().unwrap();
    let Readiness::Ready(ready) = worker.prepare(&case, 1).unwrap() else { panic!() };
    assert_eq!(ready.clock.to_string(), "device");
    let mut throttled = Vec::new();
    for _ in 0..3 {
        assert_eq!(worker.run(0, 1).unwrap(), 2_000_000);
        throttled.push(worker.is_throttled());
    }
    assert_eq!(throttled, [false, true, false]);
    let health = worker.device_health().unwrap();
    assert_eq!((health.clock_mhz, health.memory), (Some(1200.0), Some(9)));
    assert_eq!(health.throttle_words(), "power cap, thermal");
    assert!((worker.waiting_share().unwrap() - 0.05).abs() < 1e-12);
    worker.prepare(&case, 1).unwrap();
    assert_eq!(worker.waiting_share(), None, "each case has its own");
}
