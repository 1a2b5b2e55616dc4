/* A greedy Q-network policy for @environment. See policy.h. Exported by Perilune @version.
 * You may use this file without restriction.
 *
 * Each layer computes y = activation(normalize(x W + b)). W has the layout [inputs][outputs]. */
#include "policy.h"
@include
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(_M_FP_FAST)
#error "Compile policy.c without -ffast-math, which removes the check for NaN and infinity."
#endif

@weights

@helpers
void policy_q_values(const float obs[POLICY_INPUTS], float q[POLICY_ACTIONS])
{
@buffers    float invalid = 0.0f;

    /* The sum is NaN if a number is infinite or NaN, else 0. */
    for (int i = 0; i < POLICY_INPUTS; i++)
        invalid += 0.0f * obs[i];
@layers
    for (int i = 0; i < POLICY_ACTIONS; i++)
        q[i] += invalid;
}

int policy_act(const float obs[POLICY_INPUTS])
{
    float q[POLICY_ACTIONS];
    int best = 0;

    policy_q_values(obs, q);
    for (int i = 1; i < POLICY_ACTIONS; i++)
        if (q[i] > q[best])
            best = i;
    return POLICY_FIRST_ACTION + best;
}
