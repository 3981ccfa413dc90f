#include "model.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool.h"

#define N_PIECES 8 /* that a share is taken in: so much of it can be left to others */

enum { STEP_ATTN, STEP_ATTEND, STEP_PROJ, STEP_FC, STEP_MLP, N_STEPS };

/* Where a thread is in its own share of a step's work. */
struct counter { _Alignas(64) atomic_int n_taken; };

/* Some rows as integers, in tiles of at most tile_rows: [tile][K/2][rows of the tile][2]. */
struct levels {
  int16_t *values;
  float *scales;
};

struct own { /* one thread's */
  float *scratch, *queries, *scores, *partial;
  int16_t *levels; /* of a single row: cheaper made by each thread than waited for */
  float scale;
};

struct midfill_model {
  struct midfill_shape shape;
  struct midfill_block *blocks;
  struct midfill_norm final_norm;
  struct linear head;
  const struct kernels *kernels;
  struct pool *pool;
  struct own *own;
  int n_rows; /* that the buffers below have room for */
  struct levels levels;
  float *queries, *mixed, *inner;
  float *partials;
  long n_partials;
  struct counter *counters;
};

struct pass {
  struct midfill_model *model;
  int first, n_layers, n_new, n_cached;
  float *h, *kv;
  long layer_stride, head_stride;
};

static int panels(int n) { return (n + PANEL - 1) / PANEL; }
static int padded(int n) { return panels(n) * PANEL; }
static int smaller(int a, int b) { return a < b ? a : b; }
static int larger(int a, int b) { return a > b ? a : b; }

static void *room(size_t n_bytes) { return aligned_alloc(64, (n_bytes + 127) / 64 * 64); }

/* So many levels that no sum of n_in products leaves an int32. */
static int max_level(int n_in) { return smaller(INT16_MAX, INT_MAX / 127 / larger(n_in, 1)); }

/* The part of n_all that is a thread's to begin with: long reads, always at the same place. */
static int share(int n_all, int n_threads, int rank) { return (int)((long)n_all * rank / n_threads); }

/* The next piece: of the thread's own share, and when that is done of another's that is late. False when all are taken. */
static int take(struct counter *counters, int n_all, int n_threads, int rank, int *from, int *to) {
  for (int turn = 0; turn < n_threads; turn++) {
    int whose = (rank + turn) % n_threads, start = share(n_all, n_threads, whose), end = share(n_all, n_threads, whose + 1);
    int n = turn ? 1 : larger(1, (end - start) / N_PIECES);
    *from = start + atomic_fetch_add_explicit(&counters[whose].n_taken, n, memory_order_relaxed);
    *to = smaller(*from + n, end);
    if (*from < end) return 1;
  }
  return 0;
}

/* Tiles as even as can be: n_rows over as few as hold them. */
static int n_tiles(const struct midfill_model *model, int n_rows) { return (n_rows + model->kernels->tile_rows - 1) / model->kernels->tile_rows; }
static int tile_start(int tile, int tiles, int n_rows) { return (int)((long)tile * n_rows / tiles); }

/* Quantises rows that this thread is to do; of a single row every thread makes its own. */
static struct levels quantize_rows(const struct pass *pass, int rank, const float *x, long ld, const struct midfill_norm *norm, int n_in) {
  struct midfill_model *model = pass->model;
  struct own *own = &model->own[rank];
  const struct kernels *kernels = model->kernels;
  const float *gamma = norm ? norm->gamma : NULL, *beta = norm ? norm->beta : NULL;
  int n_rows = pass->n_new, level = max_level(n_in), n_pairs = (n_in + 1) / 2;
  if (n_rows == 1) {
    own->scale = kernels->quantize(x, gamma, beta, model->shape.eps, n_in, level, own->scratch, own->levels, 1);
    return (struct levels){own->levels, &own->scale};
  }
  int tiles = n_tiles(model, n_rows), size = pool_size(model->pool);
  for (int tile = 0; tile < tiles; tile++) {
    int start = tile_start(tile, tiles, n_rows), end = tile_start(tile + 1, tiles, n_rows);
    for (int row = start; row < end; row++) {
      if (row % size != rank) continue;
      int16_t *levels = model->levels.values + (long)start * 2 * n_pairs + 2 * (row - start);
      model->levels.scales[row] = kernels->quantize(x + row * ld, gamma, beta, model->shape.eps, n_in, level, own->scratch, levels, end - start);
    }
  }
  pool_barrier(model->pool);
  return model->levels;
}

/* One panel of outputs for all rows: its weights stay in the cache. */
static void run_panel(const struct pass *pass, const struct linear *linear, int panel, struct levels x, float *out, long ld, int n_valid, enum activation act) {
  struct midfill_model *model = pass->model;
  int n_rows = pass->n_new, tiles = n_tiles(model, n_rows), n_pairs = (linear->n_in + 1) / 2;
  for (int tile = 0; tile < tiles; tile++) {
    int start = tile_start(tile, tiles, n_rows), end = tile_start(tile + 1, tiles, n_rows);
    model->kernels->panel(linear, panel, x.values + (long)start * 2 * n_pairs, x.scales + start, end - start, out + start * ld, ld, n_valid, act);
  }
}

static void run_linear(const struct pass *pass, int rank, struct counter *counters, const struct linear *linear, struct levels x, float *out, long ld, enum activation act) {
  int from, to;
  while (take(counters, panels(linear->n_out), pool_size(pass->model->pool), rank, &from, &to))
    for (int panel = from; panel < to; panel++)
      run_panel(pass, linear, panel, x, out + panel * PANEL, ld, smaller(PANEL, linear->n_out - panel * PANEL), act);
}

/* Queries to a buffer, keys and values to their places in the cache. */
static void run_c_attn(const struct pass *pass, int rank, struct counter *counters, const struct linear *linear, struct levels x, float *kv) {
  struct midfill_model *model = pass->model;
  int n_q = model->shape.n_embd, n_kv = 2 * model->shape.head_dim, q_panels = panels(n_q), kv_panels = panels(n_kv), from, to;
  while (take(counters, q_panels + model->shape.n_kv_head * kv_panels, pool_size(model->pool), rank, &from, &to))
    for (int panel = from; panel < to; panel++) {
      if (panel < q_panels) {
        run_panel(pass, linear, panel, x, model->queries + panel * PANEL, n_q, smaller(PANEL, n_q - panel * PANEL), ACT_NONE);
        continue;
      }
      int head = (panel - q_panels) / kv_panels, start = (panel - q_panels) % kv_panels * PANEL;
      float *out = kv + head * pass->head_stride + (long)pass->n_cached * n_kv + start;
      run_panel(pass, linear, panel, x, out, n_kv, smaller(PANEL, n_kv - start), ACT_NONE);
    }
}

/* Sixteen queries of one key/value head: lane i is query head i % shared of row i / shared. */
struct lanes {
  const float *kv;
  int head, first, n, n_keys; /* of all lanes of this head; keys that any of them sees */
};

static struct lanes lanes_of(const struct pass *pass, const float *kv, int tile) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, tiles = panels(pass->n_new * shared);
  int head = tile / tiles, first = tile % tiles * PANEL, n = smaller(PANEL, pass->n_new * shared - first);
  return (struct lanes){kv + head * pass->head_stride, head, first, n, pass->n_cached + (first + n - 1) / shared + 1};
}

static void attend_block(const struct pass *pass, struct own *own, struct lanes lanes, int block, float *partial) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, start = block * KEY_BLOCK;
  float limits[PANEL];
  for (int i = 0; i < PANEL; i++) limits[i] = (float)(pass->n_cached + (lanes.first + smaller(i, lanes.n - 1)) / shared + 1 - start);
  pass->model->kernels->attend(own->queries, lanes.kv + (long)start * 2 * shape->head_dim, smaller(KEY_BLOCK, lanes.n_keys - start), shape->head_dim, limits,
                               own->scores, partial);
}

static void gather_queries(const struct pass *pass, struct own *own, struct lanes lanes) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, D = shape->head_dim;
  for (int i = 0; i < PANEL; i++) {
    int lane = lanes.first + smaller(i, lanes.n - 1);
    const float *q = pass->model->queries + (long)(lane / shared) * shape->n_embd + (lanes.head * shared + lane % shared) * D;
    for (int d = 0; d < D; d++) own->queries[d * PANEL + i] = q[d] * shape->attention_scale;
  }
}

static void scatter_mixed(const struct pass *pass, struct own *own, struct lanes lanes, const float *joined, float *mixed) {
  const struct midfill_shape *shape = &pass->model->shape;
  int shared = shape->n_head / shape->n_kv_head, D = shape->head_dim;
  pass->model->kernels->finish(joined, D, own->scores);
  for (int i = 0; i < lanes.n; i++) {
    int lane = lanes.first + i;
    memcpy(mixed + (long)(lane / shared) * shape->n_embd + (lanes.head * shared + lane % shared) * D, own->scores + i * D, (size_t)D * sizeof *mixed);
  }
}

static int n_blocks(int n_keys) { return (n_keys + KEY_BLOCK - 1) / KEY_BLOCK; }

/* Few queries: threads share the keys, each block's result waits for its turn to be joined. The arithmetic is that of
 * whole_tiles. Every thread joins all, where that is one row: it is sooner done than waited for. */
static const float *shared_blocks(const struct pass *pass, int rank, struct counter *counters, const float *kv, int tiles) {
  struct midfill_model *model = pass->model;
  struct own *own = &model->own[rank];
  int size = PARTIAL_FLOATS(model->shape.head_dim), blocks = n_blocks(pass->n_cached + pass->n_new), from, to, gathered = -1;
  while (take(counters, tiles * blocks, pool_size(model->pool), rank, &from, &to))
    for (int unit = from; unit < to; unit++) {
      struct lanes lanes = lanes_of(pass, kv, unit / blocks);
      if (unit % blocks >= n_blocks(lanes.n_keys)) continue;
      if (gathered != unit / blocks) gather_queries(pass, own, lanes);
      gathered = unit / blocks;
      attend_block(pass, own, lanes, unit % blocks, model->partials + (long)unit * size);
    }
  pool_barrier(model->pool);
  float *mixed = pass->n_new == 1 ? own->scratch : model->mixed;
  for (int tile = 0; tile < tiles; tile++) {
    if (pass->n_new > 1 && tile % pool_size(model->pool) != rank) continue;
    struct lanes lanes = lanes_of(pass, kv, tile);
    memcpy(own->partial, model->partials + (long)tile * blocks * size, (size_t)size * sizeof(float));
    for (int block = 1; block < n_blocks(lanes.n_keys); block++) model->kernels->merge(own->partial, model->partials + (long)(tile * blocks + block) * size, model->shape.head_dim);
    scatter_mixed(pass, own, lanes, own->partial, mixed);
  }
  if (pass->n_new > 1) pool_barrier(model->pool);
  return mixed;
}

/* Many queries: threads share them. */
static const float *whole_tiles(const struct pass *pass, int rank, struct counter *counters, const float *kv, int tiles) {
  struct midfill_model *model = pass->model;
  struct own *own = &model->own[rank];
  int size = PARTIAL_FLOATS(model->shape.head_dim), from, to;
  while (take(counters, tiles, pool_size(model->pool), rank, &from, &to))
    for (int tile = to - 1; tile >= from; tile--) {
      struct lanes lanes = lanes_of(pass, kv, tile);
      gather_queries(pass, own, lanes);
      attend_block(pass, own, lanes, 0, own->partial);
      for (int block = 1; block < n_blocks(lanes.n_keys); block++) {
        attend_block(pass, own, lanes, block, own->partial + size);
        model->kernels->merge(own->partial, own->partial + size, model->shape.head_dim);
      }
      scatter_mixed(pass, own, lanes, own->partial, model->mixed);
    }
  pool_barrier(model->pool);
  return model->mixed;
}

static int attention_tiles(const struct midfill_model *model, int n_new) {
  return model->shape.n_kv_head * panels(n_new * (model->shape.n_head / model->shape.n_kv_head));
}

static int shares_blocks(const struct midfill_model *model, int n_new) {
  return n_new == 1 || attention_tiles(model, n_new) < 8 * pool_size(model->pool);
}

#ifdef PROFILE
static long prof[10], prof_at;
static void mark(int rank, int step) {
  struct timespec now;
  if (rank) return;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long t = now.tv_sec * 1000000000L + now.tv_nsec;
  if (step >= 0) prof[step] += t - prof_at;
  prof_at = t;
}
MIDFILL_EXPORT long *midfill_profile(void) { return prof; }
#else
#define mark(a, b)
#endif

static void run_layer(const struct pass *pass, int rank, const struct midfill_block *block, struct counter *counters, float *kv) {
  struct midfill_model *model = pass->model;
  int E = model->shape.n_embd, n_inner = model->shape.n_inner, tiles = attention_tiles(model, pass->n_new), size = pool_size(model->pool);
  mark(rank, -1);
  struct levels x = quantize_rows(pass, rank, pass->h, E, &block->ln_1, E);
  mark(rank, 0);
  run_c_attn(pass, rank, counters + STEP_ATTN * size, &block->c_attn, x, kv);
  mark(rank, 1);
  pool_barrier(model->pool);
  mark(rank, 2);
  const float *mixed = (shares_blocks(model, pass->n_new) ? shared_blocks : whole_tiles)(pass, rank, counters + STEP_ATTEND * size, kv, tiles);
  mark(rank, 3);
  x = quantize_rows(pass, rank, mixed, E, NULL, E);
  mark(rank, 0);
  run_linear(pass, rank, counters + STEP_PROJ * size, &block->attn_proj, x, pass->h, E, ACT_ADD);
  mark(rank, 4);
  pool_barrier(model->pool);
  mark(rank, 2);
  x = quantize_rows(pass, rank, pass->h, E, &block->ln_2, E);
  mark(rank, 0);
  run_linear(pass, rank, counters + STEP_FC * size, &block->c_fc, x, model->inner, n_inner, (enum activation)model->shape.activation);
  mark(rank, 5);
  pool_barrier(model->pool);
  mark(rank, 2);
  x = quantize_rows(pass, rank, model->inner, n_inner, NULL, n_inner);
  mark(rank, 6);
  run_linear(pass, rank, counters + STEP_MLP * size, &block->mlp_proj, x, pass->h, E, ACT_ADD);
  mark(rank, 7);
  pool_barrier(model->pool);
  mark(rank, 2);
}

static void run_layers(void *argument, int rank) {
  const struct pass *pass = argument;
  struct midfill_model *model = pass->model;
  for (int i = 0; i < pass->n_layers; i++)
    run_layer(pass, rank, &model->blocks[pass->first + i], model->counters + (long)i * N_STEPS * pool_size(model->pool), pass->kv + i * pass->layer_stride);
}

static void forget_rows(struct midfill_model *model) {
  free(model->levels.values);
  free(model->levels.scales);
  free(model->queries);
  free(model->mixed);
  free(model->inner);
  model->levels = (struct levels){NULL, NULL};
  model->queries = model->mixed = model->inner = NULL;
  model->n_rows = 0;
}

/* Buffers for so many rows; kept for the next pass. */
static int make_room(struct midfill_model *model, int n_rows) {
  const struct midfill_shape *shape = &model->shape;
  if (n_rows <= model->n_rows) return 1;
  forget_rows(model);
  size_t widest = (size_t)padded(larger(shape->n_embd, shape->n_inner)), rows = (size_t)n_rows;
  model->levels = (struct levels){room(rows * widest * sizeof(int16_t)), room(rows * sizeof(float))};
  model->queries = room(rows * (size_t)shape->n_embd * sizeof(float));
  model->mixed = room(rows * (size_t)shape->n_embd * sizeof(float));
  model->inner = room(rows * (size_t)shape->n_inner * sizeof(float));
  if (!model->levels.values || !model->levels.scales || !model->queries || !model->mixed || !model->inner) {
    forget_rows(model);
    return 0;
  }
  model->n_rows = n_rows;
  return 1;
}

static int make_room_for_partials(struct midfill_model *model, int n_new, int n_cached) {
  long n_floats = (long)attention_tiles(model, n_new) * n_blocks(n_cached + n_new) * PARTIAL_FLOATS(model->shape.head_dim);
  if (!shares_blocks(model, n_new) || n_floats <= model->n_partials) return 1;
  free(model->partials);
  n_floats += n_floats / 2; /* the next token needs more */
  model->partials = room((size_t)n_floats * sizeof(float));
  model->n_partials = model->partials ? n_floats : 0;
  return model->partials != NULL;
}

static void reset_counters(struct midfill_model *model, int n_layers) {
  for (int i = 0; i < n_layers * N_STEPS * pool_size(model->pool); i++) atomic_store_explicit(&model->counters[i].n_taken, 0, memory_order_relaxed);
}

int midfill_layers(struct midfill_model *model, int first, int n_layers, float *h, int n_new, float *kv, long layer_stride, long head_stride, int n_cached) {
  struct pass pass = {model, first, n_layers, n_new, n_cached, h, kv, layer_stride, head_stride};
  if (!make_room(model, n_new) || !make_room_for_partials(model, n_new, n_cached)) return -1;
  reset_counters(model, n_layers);
  pool_run(model->pool, run_layers, &pass);
  return 0;
}

void midfill_embed(const struct linear *wte, const float *wpe, const int64_t *ids, int n_ids, int first_position, float *h) {
  int E = wte->n_in, n_pairs = (E + 1) / 2;
  for (int row = 0; row < n_ids; row++) {
    const int8_t *levels = wte->weights + ids[row] / PANEL * n_pairs * 2 * PANEL + ids[row] % PANEL * 2;
    const float *position = wpe + (long)(first_position + row) * E, scale = wte->scales[ids[row]];
    for (int k = 0; k < E; k++) h[(long)row * E + k] = (float)levels[k / 2 * 2 * PANEL + k % 2] * scale + position[k];
  }
}

struct product {
  struct pass pass;
  const struct midfill_norm *norm;
  const struct linear *linear;
  const float *x;
  float *out;
};

static void run_product(void *argument, int rank) {
  const struct product *product = argument;
  const struct linear *linear = product->linear;
  struct levels x = quantize_rows(&product->pass, rank, product->x, linear->n_in, product->norm, linear->n_in);
  run_linear(&product->pass, rank, product->pass.model->counters, linear, x, product->out, linear->n_out, ACT_NONE);
}

static int multiply(struct midfill_model *model, struct product product) {
  if (!make_room(model, product.pass.n_new)) return -1;
  reset_counters(model, 1);
  pool_run(model->pool, run_product, &product);
  return 0;
}

int midfill_head(struct midfill_model *model, const float *h, int n_rows, float *logits) {
  return multiply(model, (struct product){{.model = model, .n_new = n_rows}, &model->final_norm, &model->head, h, logits});
}

int midfill_linear(struct midfill_model *model, const struct linear *linear, const float *x, int n_rows, float *out) {
  return multiply(model, (struct product){{.model = model, .n_new = n_rows}, NULL, linear, x, out});
}

uint64_t midfill_checksum(const uint8_t *bytes, long n_bytes) {
  uint64_t sums[8] = {1, 2, 3, 4, 5, 6, 7, 8}, words[8];
  for (long at = 0; at < n_bytes; at += (long)sizeof words) {
    long n = n_bytes - at < (long)sizeof words ? n_bytes - at : (long)sizeof words;
    memset(words, 0, sizeof words);
    memcpy(words, bytes + at, (size_t)n);
    for (int i = 0; i < 8; i++) sums[i] = (sums[i] ^ words[i]) * 0x9e3779b97f4a7c15u + (sums[i] >> 29);
  }
  for (int i = 1; i < 8; i++) sums[0] = (sums[0] ^ sums[i]) * 0x9e3779b97f4a7c15u + (sums[0] >> 29);
  return sums[0] ^ (uint64_t)n_bytes;
}

struct reading {
  struct midfill_model *model;
  const int8_t *bytes;
  long n_bytes;
  atomic_llong sum;
};

static void read_share(void *argument, int rank) {
  struct reading *reading = argument;
  long share = reading->n_bytes / pool_size(reading->model->pool) / 256 * 256;
  const int64_t *at = (const int64_t *)(reading->bytes + rank * share), *end = at + share / 8;
  int64_t sums[32] = {0};
  for (; at < end; at += 32)
    for (int i = 0; i < 32; i++) sums[i] ^= at[i];
  for (int i = 1; i < 32; i++) sums[0] ^= sums[i];
  atomic_fetch_add(&reading->sum, sums[0]); /* so that nothing is optimised away */
}

double midfill_read_speed(struct midfill_model *model, const int8_t *bytes, long n_bytes) {
  struct reading reading = {.model = model, .bytes = bytes, .n_bytes = n_bytes};
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  pool_run(model->pool, read_share, &reading);
  clock_gettime(CLOCK_MONOTONIC, &end);
  return (double)n_bytes / ((double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec));
}

extern const struct kernels kernels_plain;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
#endif

/* The n-th best that runs here, NULL behind the last. */
static const struct kernels *variant(int n) {
  const struct kernels *found[4];
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    found[count++] = &kernels_avx512_vnni;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[count++] = &kernels_avx2;
#elif defined(__aarch64__)
  found[count++] = &kernels_neon;
#endif
  found[count++] = &kernels_plain;
  return n < count ? found[n] : NULL;
}

const char *midfill_variants(void) {
  static char names[64];
  names[0] = 0;
  for (int n = 0; variant(n); n++) strcat(strcat(names, n ? " " : ""), variant(n)->name);
  return names;
}

static int open_own(struct midfill_model *model) {
  const struct midfill_shape *shape = &model->shape;
  size_t widest = (size_t)padded(larger(shape->n_embd, shape->n_inner)), D = (size_t)shape->head_dim;
  model->own = calloc((size_t)shape->n_threads, sizeof *model->own);
  for (int i = 0; model->own && i < shape->n_threads; i++) {
    struct own *own = &model->own[i];
    own->scratch = room(widest * sizeof(float));
    own->levels = room(widest * sizeof(int16_t));
    own->queries = room(D * PANEL * sizeof(float));
    own->scores = room((size_t)larger(KEY_BLOCK, shape->head_dim) * PANEL * sizeof(float));
    own->partial = room(2 * (size_t)PARTIAL_FLOATS(shape->head_dim) * sizeof(float));
    if (!own->scratch || !own->levels || !own->queries || !own->scores || !own->partial) return 0;
  }
  return model->own != NULL;
}

struct midfill_model *midfill_open(const struct midfill_shape *shape, const struct midfill_block *blocks, const struct midfill_norm *final_norm,
                                   const struct linear *head, const char *name) {
  struct midfill_model *model = calloc(1, sizeof *model);
  if (!model) return NULL;
  model->shape = *shape;
  model->final_norm = *final_norm;
  model->head = *head;
  for (int n = 0; !model->kernels && variant(n); n++)
    if (!strcmp(variant(n)->name, name)) model->kernels = variant(n);
  size_t n_layers = (size_t)larger(shape->n_layer, 1);
  model->blocks = room(n_layers * sizeof *model->blocks);
  model->counters = room(n_layers * N_STEPS * (size_t)shape->n_threads * sizeof *model->counters);
  if (model->kernels && model->blocks && model->counters && open_own(model)) model->pool = pool_open(shape->n_threads);
  if (!model->pool) {
    midfill_close(model);
    return NULL;
  }
  memcpy(model->blocks, blocks, (size_t)shape->n_layer * sizeof *blocks);
  return model;
}

void midfill_close(struct midfill_model *model) {
  if (model->pool) pool_close(model->pool);
  for (int i = 0; model->own && i < model->shape.n_threads; i++) {
    free(model->own[i].scratch);
    free(model->own[i].levels);
    free(model->own[i].queries);
    free(model->own[i].scores);
    free(model->own[i].partial);
  }
  forget_rows(model);
  free(model->partials);
  free(model->own);
  free(model->counters);
  free(model->blocks);
  free(model);
}
