/* What driver.c takes from every_kernel.c. */
#pragma once

#include <stdint.h>

/* Returns an array of n numbers that `forget` frees, with all others that this thread has made. */
float *numbers(int64_t n);
void forget(void);

/* Runs the kernels that read weights in the formats of files, and returns a checksum. rounded: the products' operands, to bfloat16. */
unsigned long stored_kernels(int rounded);

/* Runs every kernel and returns a checksum of all results. */
unsigned long every_kernel(void);
