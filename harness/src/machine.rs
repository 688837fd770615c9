//! The machine underneath: what it is, and how it is doing.
//!
//! Everything comes from `/proc` and `/sys` on Linux and from `sysctl` on macOS. What a system
//! does not tell is `None`, never a guess.

use std::fs;
use std::process::Command;

/// What a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: Option<String>,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Data caches.
    pub caches: Caches,
    /// Operating system, with distribution and version where known.
    pub os: String,
    /// Version of the kernel.
    pub kernel: Option<String>,
    /// Instruction set architecture.
    pub architecture: &'static str,
}

/// Sizes of the data and unified caches in bytes, as the system states them. A virtual machine
/// states the cache of its host, of which it may use a part only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// First level, data, of one core.
    pub l1d: Option<u64>,
    /// Second level of one core.
    pub l2: Option<u64>,
    /// Third level, shared.
    pub l3: Option<u64>,
}

impl Machine {
    /// Asks the system.
    pub fn detect() -> Machine {
        Machine {
            cpu: cpu_model(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(),
            caches: Caches::detect(),
            os: operating_system(),
            kernel: read("/proc/sys/kernel/osrelease").or_else(|| sysctl("kern.osrelease")),
            architecture: std::env::consts::ARCH,
        }
    }
}

impl Caches {
    /// Asks the system.
    pub fn detect() -> Caches {
        Caches {
            l1d: cache_of_linux(1).or_else(|| sysctl_number("hw.l1dcachesize")),
            l2: cache_of_linux(2).or_else(|| sysctl_number("hw.l2cachesize")),
            l3: cache_of_linux(3).or_else(|| sysctl_number("hw.l3cachesize")),
        }
    }

    /// Those of a GPU: its second level, of which all is shared. NVIDIA's largest to date holds 126 MB.
    pub const GPU: Caches = Caches { l1d: None, l2: Some(128 << 20), l3: None };

    /// The last level that the system states.
    pub fn last_level(&self) -> Option<u64> {
        self.l3.or(self.l2).or(self.l1d)
    }
}

/// Processes wanting to run, averaged over 1, 5 and 15 minutes.
pub fn load_average() -> Option<[f64; 3]> {
    let text = read("/proc/loadavg")
        .or_else(|| sysctl("vm.loadavg").map(|text| text.trim_matches(['{', ' ', '}']).to_string()))?;
    parse_load_average(&text)
}

/// Clock of the fastest processor in MHz at this moment, as the kernel sees it. Virtual machines
/// often state a constant.
pub fn cpu_mhz() -> Option<f64> {
    parse_mhz(&fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// Largest resident memory that a process has had, in bytes.
pub fn peak_resident(pid: u32) -> Option<u64> {
    let kib = status_number(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM")?;
    Some(kib * 1024)
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let kib = status_number(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS")?;
    Some(kib * 1024)
}

/// Starts the count of [`peak_resident`] anew. Whether the system allows it.
pub fn reset_peak_resident(pid: u32) -> bool {
    // 5 sets the high-water mark to the present size (proc_pid_clear_refs(5)). Where that is refused the mark stays.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

/// How often the threads of a process have been taken off their processor to let others run.
pub fn involuntary_switches(pid: u32) -> Option<u64> {
    over_threads(pid, "status", |status| status_number(status, "nonvoluntary_ctxt_switches"))
}

/// How long the threads of a process have waited for a processor while they could have run, in
/// nanoseconds.
pub fn waited_ns(pid: u32) -> Option<u64> {
    // Time on a processor, time waiting for one, and how often it got one.
    over_threads(pid, "schedstat", |schedstat| schedstat.split_whitespace().nth(1)?.parse().ok())
}

/// The sum of a number in a file that the system keeps for each thread of a process.
fn over_threads(pid: u32, file: &str, number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut total = None;
    for task in tasks.flatten() {
        // A thread may have ended since.
        let Ok(text) = fs::read_to_string(task.path().join(file)) else { continue };
        if let Some(count) = number(&text) {
            total = Some(total.unwrap_or(0) + count);
        }
    }
    total
}

/// Whether no thread of a process is running or wants to, where that is known.
pub fn is_at_rest(pid: u32) -> Option<bool> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let running = |task: fs::DirEntry| {
        // A thread may have ended since.
        fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| thread_state(&stat) == Some('R'))
    };
    Some(!tasks.flatten().any(running))
}

/// Processor time of the whole machine since it started, in clock ticks (usually 10 ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTicks {
    /// All, idle included.
    pub total: u64,
    /// Taken by the hypervisor for other machines while this one wanted to run.
    pub stolen: u64,
}

impl CpuTicks {
    /// Now.
    pub fn now() -> Option<CpuTicks> {
        parse_ticks(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The share stolen since an earlier moment, in percent.
    pub fn steal_percent_since(&self, earlier: CpuTicks) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        if total == 0 { 0.0 } else { 100.0 * stolen as f64 / total as f64 }
    }
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

/// The value of a `sysctl` name. Only macOS is asked: elsewhere the files answer.
fn sysctl(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn sysctl_number(name: &str) -> Option<u64> {
    sysctl(name)?.parse().ok().filter(|&n| n > 0)
}

fn cpu_model() -> Option<String> {
    let from_cpuinfo = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        // Arm kernels give no model name, only numbers of implementer and part.
        let of = |key| cpuinfo_value(&text, key).map(str::to_string);
        of("model name")
            .or_else(|| Some(format!("implementer {} part {}", of("CPU implementer")?, of("CPU part")?)))
    });
    from_cpuinfo.or_else(|| sysctl("machdep.cpu.brand_string"))
}

/// Physical memory in bytes.
pub fn memory() -> Option<u64> {
    let from_meminfo = fs::read_to_string("/proc/meminfo").ok();
    let bytes = from_meminfo.and_then(|text| status_number(&text, "MemTotal")).map(|kib| kib * 1024);
    bytes.or_else(|| sysctl_number("hw.memsize"))
}

fn operating_system() -> String {
    let pretty = fs::read_to_string("/etc/os-release").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_string())
    });
    let macos = || sysctl("kern.osproductversion").map(|version| format!("macOS {version}"));
    pretty.or_else(macos).unwrap_or_else(|| std::env::consts::OS.to_string())
}

fn cache_of_linux(level: u32) -> Option<u64> {
    let indices = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let mut size = None;
    for index in indices.flatten() {
        let of = |file: &str| fs::read_to_string(index.path().join(file)).ok();
        let (Some(found), Some(kind), Some(text)) = (of("level"), of("type"), of("size")) else { continue };
        if found.trim().parse() == Ok(level) && kind.trim() != "Instruction" {
            size = size.or(parse_size(&text));
        }
    }
    size
}

/// Bytes of a size such as `48K` or `300M`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|&bytes| bytes > 0)
}

fn parse_load_average(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// The state behind the name, which is in parentheses and may hold any character.
fn thread_state(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

fn cpuinfo_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn parse_mhz(text: &str) -> Option<f64> {
    let clocks = text.lines().filter(|line| line.starts_with("cpu MHz"));
    clocks.filter_map(|line| line.split_once(':')?.1.trim().parse().ok()).reduce(f64::max)
}

/// The number after `key:`.
fn status_number(text: &str, key: &str) -> Option<u64> {
    cpuinfo_value(text, key)?.split_whitespace().next()?.parse().ok()
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq steal guest guest_nice, where
/// guest time is part of user time already (proc(5)).
fn parse_ticks(text: &str) -> Option<CpuTicks> {
    let words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    Some(CpuTicks { total: ticks.iter().take(8).sum(), stolen: *ticks.get(7)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("48K\n"), Some(48 << 10));
        assert_eq!(parse_size("300M"), Some(300 << 20));
        assert_eq!(parse_size("512"), Some(512));
        for bad in ["", "K", "3X", "0K", "99999999999999999999G"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn files_of_linux() {
        assert_eq!(parse_load_average("0.52 1.5 2.00 2/345 678"), Some([0.52, 1.5, 2.0]));
        assert_eq!(parse_load_average("0.52"), None);
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2450.0\n\ncpu MHz\t\t: 3500.5\n";
        assert_eq!(cpuinfo_value(cpuinfo, "model name"), Some("AMD EPYC"));
        assert_eq!(parse_mhz(cpuinfo), Some(3500.5));
        assert_eq!(parse_mhz("processor: 0"), None);
        let status = "Name:\tx\nVmHWM:\t  123 kB\nnonvoluntary_ctxt_switches:\t45\n";
        assert_eq!(status_number(status, "VmHWM"), Some(123));
        assert_eq!(status_number(status, "VmSwap"), None);
        assert_eq!(thread_state("12 (a) R b) S 1 2 3"), Some('S'));
        assert_eq!(thread_state("12"), None);
    }

    #[test]
    fn stolen_time() {
        let earlier = parse_ticks("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1\n").unwrap();
        assert_eq!(earlier, CpuTicks { total: 100, stolen: 10 });
        let later = CpuTicks { total: 300, stolen: 60 };
        assert_eq!(later.steal_percent_since(earlier), 25.0);
        assert_eq!(earlier.steal_percent_since(earlier), 0.0);
        assert_eq!(parse_ticks("cpu 1 2 3"), None);
        assert_eq!(parse_ticks(""), None);
    }

    #[test]
    fn this_machine() {
        let machine = Machine::detect();
        println!("{machine:#?}\n{:?} MHz, load {:?}", cpu_mhz(), load_average());
        assert!(machine.cores >= 1);
        assert!(!machine.os.is_empty());
        if cfg!(target_os = "linux") {
            let pid = std::process::id();
            assert!(peak_resident(pid).is_some_and(|bytes| bytes > 1 << 20));
            assert!(resident(pid).is_some_and(|bytes| bytes > 1 << 20));
            assert!(involuntary_switches(pid).is_some());
            assert!(waited_ns(pid).is_some());
            assert_eq!(is_at_rest(pid), Some(false), "this very thread is running");
            assert!(CpuTicks::now().is_some_and(|ticks| ticks.total > 0));
            assert_eq!(peak_resident(u32::MAX), None);
        }
    }
}
