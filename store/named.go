package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// NamedTargets returns the targets of each of the deliveries that still stand in
// scheduler.campaign_targets, in the order of their names. It is one statement
// for all, read after the claim, so that a target deleted before the call began
// is not pushed to.
func (s *Store) NamedTargets(ctx context.Context, deliveries []Delivery) (map[int64][]Target, error) {
	var ids, campaigns []int64
	var names []string
	out := make(map[int64][]Target, len(deliveries))
	kept := make(map[int64]*Delivery, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		kept[d.ID] = d
		for _, name := range d.Targets {
			ids, campaigns, names = append(ids, d.ID), append(campaigns, d.CampaignID), append(names, name)
		}
	}
	rows, _ := s.pool.Query(ctx, namedTargetsSQL, ids, campaigns, names)
	var r struct {
		id              int64
		stand           int
		names, keys     []string
		values, further []*string
	}
	_, err := pgx.ForEachRow(rows, []any{&r.id, &r.stand, &r.names, &r.keys, &r.values, &r.further}, func() error {
		d := kept[r.id]
		if r.names == nil && r.stand == len(d.Targets) {
			r.names = d.Targets
		}
		list := make([]Target, len(r.names))
		for i, name := range r.names {
			list[i] = Target{CampaignID: d.CampaignID, Target: name}
			if r.keys != nil {
				list[i].MsgKey, list[i].TemplateKeyValue, list[i].ExtendedParams = r.keys[i], orNil(r.values[i]), orNil(r.further[i])
			}
		}
		out[r.id] = list
		r.names, r.keys, r.values, r.further = nil, nil, nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load targets: %w", err)
	}
	return out, nil
}

func orNil(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// One look-up in the key's index for each name. Asked for all at once, the server
// may compare every target of a campaign with every name. Names are sent back
// only where some are gone, and parameters only where there are some.
const namedTargetsSQL = `
	WITH found AS (
		SELECT u.id, count(*) AS asked, count(t.target) AS stand, count(t.msg_key) + count(t.template_key_value) + count(t.extended_params) > 0 AS more,
		       array_agg(t.target ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS names,
		       array_agg(coalesce(t.msg_key, '') ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS keys,
		       array_agg(t.template_key_value::text ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS template_values,
		       array_agg(t.extended_params::text ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS params
		  FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS u (id, campaign_id, name)
		  LEFT JOIN LATERAL (SELECT * FROM scheduler.campaign_targets x WHERE x.campaign_id = u.campaign_id AND x.target = u.name OFFSET 0) t ON true
		 GROUP BY u.id
	)
	SELECT id, stand, CASE WHEN more OR stand < asked THEN names END, CASE WHEN more THEN keys END, CASE WHEN more THEN template_values END,
	       CASE WHEN more THEN params END
	  FROM found`
