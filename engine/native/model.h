/* The plain C interface, called through ctypes. One thread at a time may use a model. */
#ifndef MIDFILL_MODEL_H
#define MIDFILL_MODEL_H

#include "kernels.h"

#define MIDFILL_EXPORT __attribute__((visibility("default")))

struct midfill_shape {
  int n_layer, n_embd, n_head, n_kv_head, head_dim, n_inner, n_vocab, activation, n_threads;
  float eps, attention_scale;
};

struct midfill_norm { const float *gamma, *beta; };

/* c_attn's outputs stand as all queries, then each key/value head's keys and values, each of the 1 + K parts in whole panels. */
struct midfill_block {
  struct midfill_norm ln_1, ln_2;
  struct linear c_attn, attn_proj, c_fc, mlp_proj;
};

/* Weights in the checkpoint's dtype, of which a pass reads a few rows: in memory, or in a file where `rows` is NULL. */
struct stored {
  const void *rows;
  long offset;
  int file, kind;
};

enum stored_kind { STORED_FLOAT32, STORED_FLOAT16, STORED_BFLOAT16 };

struct midfill_exact {
  struct stored weights; /* the head's (V, E) */
  float widest_scale;    /* of the rounded ones */
};

struct midfill_embeddings {
  struct stored tokens, positions;
  int n_vocab, n_positions, n_embd;
};

struct midfill_model;

/* The names of the instruction sets that were compiled and that this machine has, the best first, between spaces. */
MIDFILL_EXPORT const char *midfill_variants(void);
/* The pointers in blocks, final_norm, head and exact must stay good. NULL where memory or threads are short, or the variant unknown. */
MIDFILL_EXPORT struct midfill_model *midfill_open(const struct midfill_shape *shape, const struct midfill_block *blocks,
                                                  const struct midfill_norm *final_norm, const struct linear *head,
                                                  const struct midfill_exact *exact, const char *variant);
MIDFILL_EXPORT void midfill_close(struct midfill_model *model);
/* h (T, E) becomes the sum of both embeddings; -1 where an id or a position has none, -2 where the file cannot be read. */
MIDFILL_EXPORT int midfill_embed(const struct midfill_embeddings *embeddings, const int64_t *ids, int n_new, int first_position, float *h);
/* Runs h (T, E) through some layers in place, and puts their keys and values into kv, which points at the model's first layer:
 * each (K, C, 2 * D), `layer_stride` floats apart, heads `head_stride`. 0, or -1 where memory is short. */
MIDFILL_EXPORT int midfill_layers(struct midfill_model *model, float *h, int n_new, float *kv, long layer_stride, long head_stride,
                                  int n_cached, int first, int n_layers);
/* logits (T, V) of h (T, E), which stays as it is. Those so near to the best that rounding may have decided are exact. */
MIDFILL_EXPORT int midfill_head(struct midfill_model *model, const float *h, int n_rows, float *logits);
/* out (T, N) = x (T, K) through one linear layer, K at most the wider of the model's: for tests. */
MIDFILL_EXPORT int midfill_linear(struct midfill_model *model, const struct linear *linear, const float *x, int n_rows, float *out);
/* A hash that any change of the bytes changes, but for one made on purpose. */
MIDFILL_EXPORT uint64_t midfill_checksum(const uint8_t *bytes, long n_bytes);
/* Bytes per second that all threads together read. */
MIDFILL_EXPORT double midfill_read_speed(struct midfill_model *model, const int8_t *bytes, long n_bytes);

#endif
