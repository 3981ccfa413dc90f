#include "pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Between two barriers lie microseconds, a sleeper needs 50 to wake: so spin first. Not longer, for on a busy machine the
 * thread that is waited for may need this very core. */
#define SPIN_NS 60000
/* Between two tokens lies the sampling of the first. */
#define SPIN_IDLE_NS 400000
#define TRY_EVERY 256
#define NEWS 0.25f /* how much one run changes what is known of a way; none counts for more than OUTLIER times that */
#define OUTLIER 4.0f

enum way { ALONE, TOGETHER, N_WAYS };

struct pool {
  int n_threads, n_started;
  int n_active; /* of this run */
  int n_units, is_try;
  struct pace { float ns[N_WAYS]; unsigned n_runs; } paces[N_KINDS], *pace; /* per unit; 0 where it is not known */
  pthread_t *threads;
  struct entry { struct pool *pool; int rank; } *entries;
  work work;
  void *argument;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  _Alignas(64) atomic_uint round;   /* counts pieces of work; the last one has closing set */
  _Alignas(64) atomic_uint phase;   /* counts barriers passed */
  _Alignas(64) atomic_int n_waiting;
  _Alignas(64) atomic_int n_asleep;
  atomic_int closing;
};

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Waits until the counter is no longer what it was. */
static void await_change(struct pool *pool, atomic_uint *counter, unsigned was, long spin_ns) {
  for (int i = 0; i < 64; i++) {
    if (atomic_load_explicit(counter, memory_order_acquire) != was) return;
    pause_briefly();
  }
  for (long until = now_ns() + spin_ns; now_ns() < until;)
    for (int i = 0; i < 32; i++) {
      if (atomic_load_explicit(counter, memory_order_acquire) != was) return;
      pause_briefly();
    }
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->n_asleep, 1); /* before the last look, as `advance` looks here after its change: none is missed */
  while (atomic_load(counter) == was) pthread_cond_wait(&pool->changed, &pool->lock);
  atomic_fetch_sub(&pool->n_asleep, 1);
  pthread_mutex_unlock(&pool->lock);
}

static void advance(struct pool *pool, atomic_uint *counter) {
  atomic_fetch_add(counter, 1);
  if (atomic_load(&pool->n_asleep)) {
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
  }
}

void pool_barrier(struct pool *pool) {
  if (pool->n_active == 1) return;
  unsigned phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
  if (atomic_fetch_add(&pool->n_waiting, 1) == pool->n_threads - 1) {
    atomic_store_explicit(&pool->n_waiting, 0, memory_order_relaxed);
    advance(pool, &pool->phase);
  } else {
    await_change(pool, &pool->phase, phase, SPIN_NS);
  }
}

static void *serve(void *argument) {
  struct entry *entry = argument;
  struct pool *pool = entry->pool;
  for (unsigned round = 0;; round++) {
    await_change(pool, &pool->round, round, SPIN_IDLE_NS);
    if (atomic_load(&pool->closing)) return NULL;
    pool->work(pool->argument, entry->rank);
    pool_barrier(pool);
  }
}

struct pool *pool_open(int n_threads) {
  struct pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
  if (!pool) return NULL;
  *pool = (struct pool){.n_threads = n_threads, .n_started = 1, .n_active = n_threads};
  pool->threads = calloc((size_t)n_threads, sizeof *pool->threads);
  pool->entries = calloc((size_t)n_threads, sizeof *pool->entries);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->changed, NULL);
  for (int rank = 1; pool->threads && pool->entries && rank < n_threads; rank++) {
    pool->entries[rank] = (struct entry){pool, rank};
    if (pthread_create(&pool->threads[rank], NULL, serve, &pool->entries[rank])) break;
    pool->n_started++;
  }
  if (pool->n_started < n_threads) {
    pool_close(pool);
    return NULL;
  }
  return pool;
}

void pool_close(struct pool *pool) {
  atomic_store(&pool->closing, 1);
  advance(pool, &pool->round);
  for (int rank = 1; rank < pool->n_started; rank++) pthread_join(pool->threads[rank], NULL);
  pthread_cond_destroy(&pool->changed);
  pthread_mutex_destroy(&pool->lock);
  free(pool->entries);
  free(pool->threads);
  free(pool);
}

int pool_size(const struct pool *pool) { return pool->n_active; }

void pool_expect(struct pool *pool, enum pool_kind kind, int n_units) {
  pool->n_active = pool->n_threads;
  pool->pace = NULL;
  if (kind == FOR_ALL) return;
  struct pace *pace = pool->pace = &pool->paces[kind];
  enum way way = pace->ns[TOGETHER] > pace->ns[ALONE] ? ALONE : TOGETHER; /* together first, then alone, for nothing is 0 */
  pool->is_try = ++pace->n_runs % TRY_EVERY == 0;
  if (pool->is_try) way = way == ALONE ? TOGETHER : ALONE;
  pool->n_active = way == ALONE ? 1 : pool->n_threads;
  pool->n_units = n_units;
}

static void note_pace(struct pool *pool, long took_ns) {
  if (!pool->pace) return;
  float *known = &pool->pace->ns[pool->n_active > 1], took = (float)took_ns / (float)pool->n_units;
  if (pool->is_try || *known == 0)
    *known = took;
  else
    *known += NEWS * ((took < OUTLIER * *known ? took : OUTLIER * *known) - *known);
}

void pool_run(struct pool *pool, work work, void *argument) {
  long start = now_ns();
  pool->work = work;
  pool->argument = argument;
  if (pool->n_active > 1) advance(pool, &pool->round);
  work(argument, 0);
  pool_barrier(pool);
  note_pace(pool, now_ns() - start);
}
