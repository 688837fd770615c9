//! How a backend finds its kernel for an operation: by a table that its family files make up.

/// Declares the files of a backend's families and the lookup over their tables.
///
/// Each file implements the backend's trait `HasKernel` for the operations of its family and lists these in
/// `pub(super) const KERNELS: &[Entry]`, each as `of::<TheOperation>`. No other place of a backend names an
/// operation: a new family is one new file and its name here.
macro_rules! kernel_table {
    ($($family:ident),+ $(,)?) => {
        $(mod $family;)+

        /// An operation as one that has a kernel here, if it is of the type that the entry is for.
        type Entry = fn(&$crate::op::Op) -> Option<&dyn HasKernel>;

        /// The entry of an operation's type.
        fn of<O: HasKernel + $crate::op::Operation>(op: &$crate::op::Op) -> Option<&dyn HasKernel> {
            op.get::<O>().map(|operation| operation as &dyn HasKernel)
        }

        /// The kernel for an operation, if there is one.
        fn kernel_of(op: &$crate::op::Op) -> Option<&dyn HasKernel> {
            const TABLES: &[&[Entry]] = &[$($family::KERNELS),+];
            TABLES.iter().copied().flatten().find_map(|entry| entry(op))
        }
    };
}

pub(crate) use kernel_table;
