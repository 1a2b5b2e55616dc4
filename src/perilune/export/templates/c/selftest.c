/* Compare policy.c with @count observations for which Perilune computed the Q-values and actions. */
#include "policy.h"

#include <math.h>
#include <stdio.h>

#define COUNT @count

static const float tolerance = @tolerance; /* of the largest absolute Q-value, or of 1 if that is larger */

static const float golden_obs[COUNT][POLICY_INPUTS] = {
@obs
};

static const float golden_q[COUNT][POLICY_ACTIONS] = {
@q_values
};

static const int golden_action[COUNT] = {
@action
};

/* Whether the two best Q-values differ by more than rounding errors. */
static const int golden_certain[COUNT] = {
@certain
};

/* Return the largest error of the Q-values, relative to the largest absolute Q-value or to 1. */
static float largest_error(const float q[POLICY_ACTIONS], const float expected[POLICY_ACTIONS])
{
    float scale = 1.0f, largest = 0.0f;

    for (int a = 0; a < POLICY_ACTIONS; a++)
        scale = fmaxf(scale, fabsf(expected[a]));
    for (int a = 0; a < POLICY_ACTIONS; a++) {
        const float error = fabsf(q[a] - expected[a]) / scale;
        if (error != error) /* NaN */
            return INFINITY;
        largest = fmaxf(largest, error);
    }
    return largest;
}

/* Return whether an observation that is invalid at one index gives NaN and the first action. */
static int refuses(int index, float value)
{
    float obs[POLICY_INPUTS], q[POLICY_ACTIONS];

    for (int i = 0; i < POLICY_INPUTS; i++)
        obs[i] = golden_obs[0][i];
    obs[index] = value;
    policy_q_values(obs, q);
    for (int a = 0; a < POLICY_ACTIONS; a++)
        if (q[a] == q[a])
            return 0;
    return policy_act(obs) == POLICY_FIRST_ACTION;
}

int main(void)
{
    float worst = 0.0f;
    int different = 0, refused = 1;

    for (int n = 0; n < COUNT; n++) {
        float q[POLICY_ACTIONS];
        policy_q_values(golden_obs[n], q);
        const float error = largest_error(q, golden_q[n]);
        worst = fmaxf(worst, error);
        different += error > tolerance || (policy_act(golden_obs[n]) != golden_action[n] && golden_certain[n]);
    }
    for (int i = 0; i < POLICY_INPUTS; i++)
        refused = refused && refuses(i, NAN) && refuses(i, INFINITY) && refuses(i, -INFINITY);
@categories    if (different)
        printf("FAILED: %d of %d observations differ. Largest relative error: %.1e.\n", different, COUNT, (double)worst);
    else if (!refused)
        printf("FAILED: Invalid observations do not give NaN.\n");
    else
        printf("OK: %d observations agree. Largest relative error: %.1e.\n", COUNT, (double)worst);
    return different || !refused;
}
