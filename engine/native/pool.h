/* Threads that stay: they spin for a moment between two pieces of work, and sleep when there is none. */
#ifndef MIDFILL_POOL_H
#define MIDFILL_POOL_H

#include <stdatomic.h>

typedef void (*work)(void *argument, int rank);

struct pool;

/* n_threads, the caller's counted; NULL where they cannot be had. */
struct pool *pool_open(int n_threads);
void pool_close(struct pool *pool);
/* Kinds of work, of which each finds out by itself how many threads it is worth. */
enum pool_kind { ONE_ROW, FEW_ROWS, MANY_ROWS, HEAD, N_KINDS, FOR_ALL = N_KINDS };
/* Says what comes next, and how much of it. On a machine that is busy with something else, two threads that wait for each other
 * are slower than one alone: whichever was faster of late is taken, and now and then the other is tried. */
void pool_expect(struct pool *pool, enum pool_kind kind, int n_units);
/* Of the threads that the expected work will run on. */
int pool_size(const struct pool *pool);
/* Runs the work on each of these threads and waits for all. */
void pool_run(struct pool *pool, work work, void *argument);
/* Waits until each of them has come here; what each wrote before is then seen by all. */
void pool_barrier(struct pool *pool);

#endif
