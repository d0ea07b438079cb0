"""What is said while the blocks of a denoiser are compiled, in the window and in the terminal."""

COMPILING = "Compiling, once; the next pictures start at once"
CANCELLING = "Cancelling as soon as the compiler is done"
