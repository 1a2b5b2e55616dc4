/* The smallest program that uses the policy. Its size is the memory that a policy needs. */
#include "policy.h"

volatile float sensors[POLICY_INPUTS];
volatile int action;

int main(void)
{
    for (;;) {
        float obs[POLICY_INPUTS];
        for (int i = 0; i < POLICY_INPUTS; i++)
            obs[i] = sensors[i];
        action = policy_act(obs);
    }
}
