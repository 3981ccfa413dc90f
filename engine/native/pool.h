/* Threads that stay: they spin for a moment between two pieces of work, and sleep when there is none. */
#ifndef MIDFILL_POOL_H
#define MIDFILL_POOL_H

#include <stdatomic.h>

typedef void (*work)(void *argument, int rank);

struct pool;

/* n_threads, the caller's counted; NULL where they cannot be had. */
struct pool *pool_open(int n_threads);
void pool_close(struct pool *pool);
int pool_size(const struct pool *pool);
/* Runs the work on every thread and waits for all. */
void pool_run(struct pool *pool, work work, void *argument);
/* Waits until every thread has come here; what each wrote before is then seen by all. */
void pool_barrier(struct pool *pool);

#endif
